"""slurmctld is killed and forgets jobs: those that have not run are sent again, others do not run again."""

from __future__ import annotations

import shutil

import pytest
from counted_runs import runs
from people import c2_nodes, eventually, operator, slurmctld_has_saved

pytestmark = pytest.mark.slurm


def knows(testbed, job_id: int) -> bool:
    return testbed.c2(("scontrol", "show", "job", str(job_id))).returncode == 0


def waits(testbed, job_id: int) -> bool:
    words = ("squeue", "--noheader", "--states=PENDING", "--partition=p_qx", "--format=%i")
    return str(job_id) in testbed.c2(words).stdout.split()


def running(testbed) -> str:
    return testbed.c2(
        ("squeue", "--noheader", "--states=RUNNING", "--partition=p_qx", "--format=%i")
    ).stdout.strip()


def accounted(testbed, job_ids: list[int]) -> set[str]:
    """The states of these jobs in C2's accounting."""
    words = ("sacct", "-nPX", "--allusers", "--format=State", f"--jobs={','.join(map(str, job_ids))}")
    return set(testbed.c2(words).stdout.split())


@pytest.fixture
def ids_given(testbed):
    """Job ids after which slurmctld continues when the story is over, so that later jobs get new ids."""
    given: list[int] = []
    yield given
    conf = testbed.layout.c2_conf
    before = conf.read_text()
    try:
        conf.write_text(f"{before}FirstJobId={max(given, default=0) + 1}\n")
        testbed.c2(("scontrol", "reconfigure"))
        words = ("sbatch", "--parsable", "--hold", "--partition=p_qx", "--chdir=/", "--wrap=true")
        testbed.c2(("scancel", testbed.c2(words, user="center_snellius").stdout.strip()))
    finally:
        conf.write_text(before)
        testbed.c2(("scontrol", "reconfigure"))


def test_a_job_that_slurmctld_forgot_is_sent_again_and_its_user_waits_on(
    testbed, agent, alice, counter, pool
):
    operator(testbed, "partition", "drain", "p_qx")
    sent: list[int] = []
    while not sent or knows(testbed, sent[-1]):  # slurmctld may just have written down what it knows
        assert len(sent) < 5
        sent.append(alice.submits("count.sh", "--backend", "qx"))
        testbed.kill("slurmctld-c2")
        testbed.start("slurmctld-c2")
    job_id = sent[-1]
    waiting = pool.submit(alice.types, "wait", str(job_id))
    eventually(agent.losses, "the agent to notice")  # the job may get its old id again
    operator(testbed, "partition", "enable", "p_qx")
    done = waiting.result()
    assert done.returncode == 0, done.stderr
    eventually(lambda: runs(counter)[0] == len(sent), "all of them to have run")
    assert alice.gets("results", str(job_id))["state"] == "finished"


def test_a_script_that_has_begun_is_not_begun_again_by_a_slurmctld_that_has_forgotten_it(
    testbed, alice, counter
):
    operator(testbed, "partition", "drain", "p_qx")
    job_id = alice.submits("count.sh", "--backend", "qx")
    slurmctld_has_saved(testbed, job_id)
    operator(testbed, "partition", "enable", "p_qx")
    eventually(lambda: runs(counter)[0], "the script to run")
    testbed.kill("slurmctld-c2")
    testbed.up()
    # COMPLETED if the epilog, or slurmctld, had come to saying so; else nobody knows how it ended
    assert alice.ends_as(job_id) in ("COMPLETED", "FAILED")
    assert runs(counter) == {0: 1}
    eventually(lambda: "drain" not in c2_nodes(testbed), "the node to be in service")


def test_a_cancellation_that_slurmctld_has_forgotten_is_repeated(testbed, agent, alice, counter):
    operator(testbed, "partition", "drain", "p_qx")
    job_id = alice.submits("count.sh", "--backend", "qx")
    slurmctld_has_saved(testbed, job_id)
    saved = testbed.layout.slurm_state("c2") / "job_state"
    before = saved.read_bytes()
    assert alice.types("cancel", str(job_id)).returncode == 0
    testbed.kill("slurmctld-c2")
    saved.write_bytes(before)  # as if it had not come to writing down more
    testbed.start("slurmctld-c2")
    assert waits(testbed, job_id)
    eventually(lambda: not waits(testbed, job_id), "the agent to cancel it again", seen=agent.log)
    operator(testbed, "partition", "enable", "p_qx")
    assert alice.ends_as(job_id) == "CANCELLED"
    assert not runs(counter)


def test_a_job_whose_end_slurmctld_has_forgotten_gives_its_cpus_back(testbed, alice, held, counter):
    job_id = held.submit()
    eventually(lambda: runs(counter)[0], "the script to run")
    slurmctld_has_saved(testbed, job_id)
    saved = testbed.layout.slurm_state("c2") / "job_state"
    before = saved.read_bytes()
    held.let_go()
    assert alice.ends_as(job_id) == "COMPLETED"
    testbed.kill("slurmctld-c2")
    saved.write_bytes(before)  # as if it had not come to writing down more
    testbed.start("slurmctld-c2")
    assert running(testbed) == str(job_id)
    eventually(lambda: not running(testbed), "the gate to end it", patience_s=60)
    eventually(lambda: "idle" in c2_nodes(testbed), "the node's CPUs to be free")
    assert runs(counter) == {0: 1}
    assert alice.gets("results", str(job_id))["state"] == "finished"
    assert alice.ends_as(job_id) == "COMPLETED"


def test_a_slurmctld_that_has_lost_its_whole_state_costs_nothing_and_repeats_nothing(
    testbed, agent, alice, held, counter, pool, ids_given
):
    over = alice.submits("count.sh", "--backend", "qx")
    assert alice.ends_as(over) == "COMPLETED"
    cut_off = held.submit()
    eventually(lambda: runs(counter)[0] == 2, "the second to run")
    operator(testbed, "partition", "drain", "p_qx")
    waiting = [alice.submits("count.sh", "--backend", "qx") for _ in range(2)]
    ids_given += waiting
    followers = [pool.submit(alice.types, "wait", str(job_id)) for job_id in (*waiting, cut_off)]
    eventually(lambda: accounted(testbed, waiting) == {"PENDING"}, "slurmdbd to have heard of them")
    testbed.kill("slurmctld-c2")
    for path in testbed.layout.slurm_state("c2").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    testbed.start("slurmctld-c2")  # it gives the same job ids again, from 1
    eventually(lambda: agent.losses() == 2, "the agent to notice", seen=agent.log)
    operator(testbed, "partition", "enable", "p_qx")
    *sent_again, lost = [follower.result() for follower in followers]
    assert [done.returncode for done in sent_again] == [0, 0], sent_again
    assert (lost.returncode, str(cut_off) in lost.stderr) == (6, True), lost
    assert runs(counter) == {0: 4}
    states = [alice.gets("results", str(job_id))["state"] for job_id in (over, *waiting)]
    assert states == ["finished"] * 3
    assert alice.types("results", str(cut_off)).returncode == 6


def test_a_job_that_c2_loses_a_third_time_is_reported_and_not_sent_again(
    testbed, agent, alice, counter, ids_given
):
    operator(testbed, "partition", "drain", "p_qx")
    before = alice.submits("count.sh", "--backend", "qx")
    slurmctld_has_saved(testbed, before)
    saved = testbed.layout.slurm_state("c2") / "job_state"
    without = saved.read_bytes()
    job_id = alice.submits("count.sh", "--backend", "qx")
    ids_given += [before, job_id + 3]

    def is_there():
        return agent.query("SELECT 1 FROM submissions WHERE number = 2 AND state = 'accepted'")

    for times in (1, 2, 3):
        eventually(is_there, "C2 to have it", seen=agent.log)
        testbed.kill("slurmctld-c2")
        saved.write_bytes(without)
        testbed.start("slurmctld-c2")
        eventually(lambda times=times: agent.losses() == times, "the agent to notice", seen=agent.log)
    assert agent.query("SELECT state FROM submissions WHERE number = 2") == [("lost",)]
    waited = alice.types("wait", str(job_id))
    assert (waited.returncode, str(job_id) in waited.stderr) == (6, True), waited.stderr
    assert alice.sees(job_id) == "FAILED"
    assert job_id in [job["job_id"] for job in alice.gets("queue", "--all")["jobs"]]
    assert alice.types("cancel", str(job_id)).returncode == 0
    operator(testbed, "partition", "enable", "p_qx")
    assert alice.ends_as(before) == "COMPLETED"
    assert runs(counter) == {0: 1}
