"""The prolog and epilog plugins on real Slurm: failures of the platform delay a job, and lose nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from people import frozen, slurmctld_has_saved

from qslurm.payload.handover import SHIPPED

if TYPE_CHECKING:
    from c2_platform import Platform

pytestmark = pytest.mark.slurm


def test_a_circuit_job_is_forwarded_when_it_starts_and_closed_when_it_ends(platform: Platform) -> None:
    job_id = platform.submit_bell()
    platform.until_state(job_id, "COMPLETED")
    platform.until(lambda: job_id not in platform.open_tasks())
    found = platform.ask(f"jobs/{job_id}/results").json()
    assert (found["state"], found["shots"], set(found["counts"])) == ("finished", 100, {"00", "11"})
    assert platform.stored(job_id)["slurm_state"] == "COMPLETED"


def test_every_task_of_an_array_runs_and_has_results_of_its_own(platform: Platform) -> None:
    circuits = platform.tasks_of(platform.submit_bell("--array=0-2"))
    assert len(set(circuits)) == 3
    for job_id in circuits:
        platform.until(lambda job_id=job_id: platform.stored(job_id).get("slurm_state") == "COMPLETED")
        found = platform.stored(job_id)
        assert (found["state"], found["reason"], found["executions"]) == (
            "finished",
            "",
            1,
        )  # not another's results
    scripts = platform.tasks_of(platform.submit_script("true", "--array=5,7"))
    for job_id in scripts:
        platform.until(lambda job_id=job_id: platform.stored(job_id).get("state") == "finished")


def assert_nothing_is_lost(platform: Platform, job_id: int) -> None:
    assert platform.state(job_id) == "PENDING"
    assert platform.job(job_id)["Priority"] != "0"  # not held
    assert platform.node_state() in {"idle", "mix"}  # not drained


def assert_it_ran_once(platform: Platform, job_id: int) -> None:
    # Slurm by itself would wait two minutes before it starts a requeued job again.
    platform.until_state(job_id, "COMPLETED")
    platform.until(lambda: platform.stored(job_id).get("slurm_state") == "COMPLETED")
    assert platform.ask(f"jobs/{job_id}/results").json()["shots"] == 100
    assert sum(job["job_id"] == job_id for job in platform.ask("jobs").json()["jobs"]) == 1


def test_with_the_dispatcher_down_the_job_goes_back_to_the_queue_and_runs_when_it_is_back(
    platform: Platform,
) -> None:
    with platform.without_gate():
        platform.testbed.kill("dispatcher")
        job_id = platform.submit_bell()
        platform.until_turned_away(job_id)
        assert_nothing_is_lost(platform, job_id)
        platform.testbed.start("dispatcher")
    assert_it_ran_once(platform, job_id)


def test_with_the_backend_offline_the_job_goes_back_to_the_queue_and_runs_when_it_is_back(
    platform: Platform,
) -> None:
    with platform.without_gate():
        platform.operator("backend", "offline", "qx", "--reason", "warming up")
        job_id = platform.submit_bell()
        platform.until_turned_away(job_id)
        assert_nothing_is_lost(platform, job_id)
        assert "warming up" in platform.hooks_log()
    platform.operator("backend", "online", "qx")
    assert_it_ran_once(platform, job_id)


def test_with_a_dispatcher_that_hangs_the_job_goes_back_to_the_queue_and_runs_when_it_wakes(
    platform: Platform,
) -> None:
    with platform.without_gate(), frozen(platform.testbed, "dispatcher"):
        job_id = platform.submit_bell()
        platform.until_turned_away(job_id)
        assert_nothing_is_lost(platform, job_id)
    platform.until_state(job_id, "COMPLETED")
    platform.until(lambda: job_id not in platform.open_tasks())
    assert platform.ask(f"jobs/{job_id}/results").json()["shots"] == 100


def test_a_job_with_requeue_off_is_not_lost_either(platform: Platform) -> None:
    platform.operator("partition", "drain", "p_qx")
    job_id = platform.submit_bell()
    platform.scontrol("update", f"JobId={job_id}", "Requeue=0")
    with platform.without_gate():
        platform.operator("backend", "offline", "qx")
        platform.scontrol("update", "PartitionName=p_qx", "State=UP")
        platform.until_turned_away(job_id)
        assert_nothing_is_lost(platform, job_id)
    platform.operator("backend", "online", "qx")
    platform.operator("partition", "enable", "p_qx")
    assert_it_ran_once(platform, job_id)


def test_a_job_that_is_turned_away_again_and_again_is_never_held(platform: Platform) -> None:
    with platform.without_gate():
        platform.operator("backend", "offline", "qx")
        job_id = platform.submit_bell()
        for restart in range(1, 8):
            platform.until(lambda: platform.job(job_id)["Restarts"] == str(restart))  # noqa: B023 # asked at once
            platform.until_turned_away(job_id)
            assert_nothing_is_lost(platform, job_id)
            platform.scontrol("update", f"JobId={job_id}", "StartTime=now")
    platform.operator("backend", "online", "qx")
    platform.until_state(job_id, "COMPLETED")


def test_a_job_that_can_never_run_is_cancelled_and_its_owner_told_why(platform: Platform) -> None:
    job_id = platform.submit(SHIPPED[-1] + "#QSLURM-DATA {nonsense\n")
    platform.until_state(job_id, "CANCELLED")
    assert "Cannot read the job's data" in platform.scontrol("show", "job", str(job_id))
    assert platform.node_state() == "idle"


def test_a_script_that_fails_is_closed_as_failed(platform: Platform) -> None:
    job_id = platform.submit_script("exit 3")
    platform.until_state(job_id, "FAILED")
    platform.until(lambda: platform.stored(job_id)["slurm_state"] == "FAILED")
    assert platform.stored(job_id)["state"] == "failed"


def test_cancelling_a_running_job_closes_it(platform: Platform) -> None:
    job_id = platform.submit_endless()
    platform.scontrol("show", "job", str(job_id))
    platform.testbed.c2(["scancel", str(job_id)], user="center_snellius")
    platform.until(lambda: job_id not in platform.open_tasks())
    assert platform.stored(job_id)["state"] == "cancelled"


def test_a_cancelled_job_is_cancelled_whatever_its_script_makes_of_it(platform: Platform) -> None:
    """A script may catch the signal and end by itself, as a shell does whose command dies of it."""
    job_id = platform.submit_script("trap 'exit 3' TERM; echo begun; sleep 300 & wait")
    platform.until(lambda: "begun" in platform.ask(f"jobs/{job_id}/logs").text)
    platform.testbed.c2(["scancel", str(job_id)], user="center_snellius")
    platform.testbed.c2(["scancel", "--full", str(job_id)], user="center_snellius")
    platform.until(lambda: job_id not in platform.open_tasks())
    assert platform.stored(job_id)["state"] == "cancelled"


def test_cancelling_a_job_while_its_prolog_waits_leaves_nothing_open(platform: Platform) -> None:
    with frozen(platform.testbed, "dispatcher"):
        job_id = platform.submit_bell()
        platform.until_state(job_id, "CONFIGURING")
        platform.testbed.c2(["scancel", str(job_id)], user="center_snellius")
        platform.until_state(job_id, "CANCELLED")
    platform.until(lambda: job_id not in platform.open_tasks())
    assert platform.state(job_id) == "CANCELLED"


def test_a_requeued_job_is_two_starts_of_one_job(platform: Platform) -> None:
    job_id = platform.submit_script('[ "$SLURM_RESTART_COUNT" ] || sleep 300')
    platform.until(lambda: job_id in platform.open_tasks() and platform.state(job_id) == "RUNNING")
    platform.scontrol("requeue", str(job_id))
    platform.until(lambda: platform.state(job_id) == "PENDING" and job_id not in platform.open_tasks())
    assert platform.stored(job_id)["state"] == "withdrawn"
    assert platform.ask(f"jobs/{job_id}/results").status_code == 409
    platform.scontrol("update", f"JobId={job_id}", "StartTime=now")
    platform.until_state(job_id, "COMPLETED")
    platform.until(lambda: platform.stored(job_id)["slurm_state"] == "COMPLETED")
    states = [job["state"] for job in platform.ask("jobs").json()["jobs"] if job["job_id"] == job_id]
    assert states == ["finished", "withdrawn"]


def test_an_end_the_dispatcher_could_not_be_told_is_told_later(platform: Platform) -> None:
    job_id = platform.submit_endless()
    platform.testbed.kill("dispatcher")
    platform.testbed.c2(["scancel", str(job_id)])
    platform.until(lambda: f"{job_id}.0.json" in platform.spooled("finish"))
    platform.testbed.start("dispatcher")
    platform.until(lambda: not platform.spooled("finish"))
    assert platform.stored(job_id)["slurm_state"] == "CANCELLED"


def test_an_end_nobody_told_is_found_out(platform: Platform) -> None:
    job_id = platform.submit_endless()
    with platform.without_gate():
        platform.testbed.kill("dispatcher")
        platform.testbed.c2(["scancel", str(job_id)])
        platform.until(lambda: f"{job_id}.0.json" in platform.spooled("finish"))
        (platform.gate_folder / "finish" / f"{job_id}.0.json").unlink()
        platform.testbed.start("dispatcher")
        assert job_id in platform.open_tasks()
    platform.until(lambda: job_id not in platform.open_tasks())
    assert platform.stored(job_id)["state"] == "cancelled"


def test_a_slurmctld_killed_in_the_middle_of_a_job_costs_it_nothing(platform: Platform) -> None:
    job_id = platform.submit_script("sleep 15")
    platform.until_state(job_id, "RUNNING")
    slurmctld_has_saved(platform.testbed, job_id)
    platform.testbed.kill("slurmctld-c2")
    platform.testbed.start("slurmctld-c2")
    platform.until_state(job_id, "COMPLETED")
    platform.until(lambda: platform.stored(job_id)["slurm_state"] == "COMPLETED")
    assert platform.stored(job_id)["state"] == "finished"


def test_a_job_that_is_not_for_a_backend_is_none_of_ours(platform: Platform) -> None:
    platform.scontrol("create", "PartitionName=classical", "Nodes=ALL", "State=UP")
    try:
        job_id = platform.submit_script("true", "--partition=classical", "--output=/dev/null")
        platform.until_state(job_id, "COMPLETED")
        assert f"job={job_id} " not in platform.hooks_log()
    finally:
        platform.scontrol("delete", "PartitionName=classical")
