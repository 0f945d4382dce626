"""C1 jobs that depend on a C2 job: follow-ups, held until it has ended, and jobs that wait for it."""

import json
import os
import re
import signal
from contextlib import suppress

import pytest
from people import AgentUser, Researcher, eventually, operator

from qslurm.payload.comment import new_key

pytestmark = pytest.mark.slurm

NEXT = "#!/bin/bash\n#SBATCH --mem=10 --output=next-%j.out\nqslurm results $QSLURM_C2_JOB --json\n"
FAILS = "#!/bin/bash\nexit 3\n"


class Client(AgentUser):
    """A user of the center's agent who submits follow-ups."""

    def submits_followed(self, *words, script="next.sbatch"):
        """Submit a job with a follow-up; the ids on C2 and on C1."""
        document = self.gets("submit", *words, "--then", script)
        return document["job_id"], document["follow_up"]

    def waits_in_a_job(self, *options, environment=None, files=("bell.cq",)):
        """A C1 job that waits for held jobs on C2; the last C2 job id, and the C1 job id."""
        self.has_example("bell.cq")
        exports = "".join(
            f"export {name}={value}\n" for name, value in (environment or self.environment).items()
        )
        name = f"wait-{new_key()}"
        script = (
            f"#!/bin/bash\n#SBATCH --mem=10\n{exports}"
            f"qslurm submit {' '.join(files)} --backend qx --hold --wait {' '.join(options)} --job-name {name}\n"
        )
        c1_job = self.sbatches(f"{name}.sbatch", script)
        said, center = self.folder / f"{name}.sbatch.out", Researcher(self.testbed)

        def submitted():
            return [job["job_id"] for job in center.gets("queue")["jobs"] if job["name"] == name]

        eventually(
            lambda: len(submitted()) == len(files),
            "the job to submit",
            seen=lambda: f"; it said {said.read_text() if said.exists() else 'nothing'}",
        )
        return max(submitted()), c1_job

    def on_c1(self, c1_job):
        """The job as C1's Slurm shows it."""
        done = self.testbed.c1(("scontrol", "show", "job", "--oneliner", str(c1_job)))
        return dict(re.findall(r"(\w+)=(.*?)(?= \w+=|$)", done.stdout.strip()))

    def sees_on_c1(self, c1_job, *states):
        eventually(
            lambda: self.on_c1(c1_job)["JobState"] in states,
            f"job {c1_job} of C1 to be {' or '.join(states)}",
            seen=lambda: f"; it is {self.on_c1(c1_job)}",
        )


@pytest.fixture
def alice(testbed):
    testbed.up()
    operator(testbed, "partition", "enable", "p_qx")
    alice = Client(testbed)
    alice.has_example("bell.cq")
    alice.writes("next.sbatch", NEXT)
    alice.writes("fails.sh", FAILS)
    return alice


def kill(testbed, name):
    os.kill(testbed.pid(name), signal.SIGKILL)


def test_a_follow_up_runs_when_its_job_has_ended_and_finds_its_results(alice):
    exports = f"export QSLURM_CONFIG={alice.environment['QSLURM_CONFIG']}\n"  # as on a node: by the network
    first = alice.sbatches(
        "first.sbatch",
        f"#!/bin/bash\n#SBATCH --mem=10\n{exports}"
        "qslurm submit bell.cq --backend qx --then next.sbatch --json 2> first.err\n",
    )
    alice.sees_on_c1(first, "COMPLETED")
    document = json.loads((alice.folder / "first.sbatch.out").read_text())
    alice.sees_on_c1(document["follow_up"], "COMPLETED")
    results = json.loads((alice.folder / f"next-{document['follow_up']}.out").read_text())
    assert results["job_id"] == document["job_id"]
    assert set(results["counts"]) == {"00", "11"}


def test_a_follow_up_runs_as_asked_and_is_cancelled_with_a_reason_otherwise(alice):
    jobs = {
        (end, condition): alice.submits_followed(*words, "--backend", "qx", "--then-if", condition)[1]
        for end, words in (("completes", ("bell.cq",)), ("fails", ("fails.sh",)))
        for condition in ("ok", "any", "failed")
    }
    array = alice.submits_followed("bell.cq", "--backend", "qx", "--array", "0-2")
    for (end, condition), c1_job in jobs.items():
        runs = condition == "any" or (condition == "ok") == (end == "completes")
        alice.sees_on_c1(c1_job, *(("COMPLETED", "FAILED") if runs else ("CANCELLED",)))
    assert "failed" in alice.on_c1(jobs["fails", "ok"])["AdminComment"]
    assert "completed" in alice.on_c1(jobs["completes", "failed"])["AdminComment"]
    alice.sees_on_c1(array[1], "COMPLETED", "FAILED")
    assert alice.gets("queue", "--all", "--json")["jobs"] is not None
    assert {task["state"] for task in alice.gets("show", str(array[0]))["tasks"]} == {"COMPLETED"}


def test_a_cancelled_job_counts_as_failed(alice):
    job_id, ok = alice.submits_followed("bell.cq", "--backend", "qx", "--hold")
    other, failed = alice.submits_followed("bell.cq", "--backend", "qx", "--hold", "--then-if", "failed")
    assert alice.on_c1(ok)["Reason"] == "JobHeldUser"
    assert alice.types("cancel", str(job_id), str(other)).returncode == 0
    alice.sees_on_c1(ok, "CANCELLED")
    assert f"Job {job_id} was cancelled" in alice.on_c1(ok)["AdminComment"]
    alice.sees_on_c1(failed, "COMPLETED", "FAILED")


def test_a_follow_up_survives_whatever_is_killed_in_between(alice):
    testbed = alice.testbed
    job_id, c1_job = alice.submits_followed("bell.cq", "--backend", "qx", "--hold")
    for name in ("agent", "releaser"):
        kill(testbed, name)
    testbed.stop("slurmctld-c1")
    done = testbed.c2(("scontrol", "release", str(job_id)))
    assert done.returncode == 0, done.stderr
    eventually(
        lambda: "COMPLETED" in testbed.c2(("scontrol", "show", "job", str(job_id))).stdout,
        "the C2 job to end",
    )
    testbed.start("agent")
    testbed.start("releaser")  # C1's slurmctld is still away
    testbed.start("slurmctld-c1")
    alice.sees_on_c1(c1_job, "COMPLETED")


def test_another_users_jobs_can_neither_be_followed_nor_released(alice):
    testbed = alice.testbed
    bob = Client(testbed, "qs_bob")
    job_id, _ = alice.submits_followed("bell.cq", "--backend", "qx")
    key = alice.gets("show", str(job_id))["key"]
    held = alice.sbatches("held.sbatch", "#!/bin/bash\n#SBATCH --hold --mem=10\ntrue\n")

    def marked(comment):
        bob.writes("x.sbatch", "#!/bin/bash\n#SBATCH --mem=10\ntrue\n")
        done = testbed.c1(
            ("sbatch", "--parsable", "--hold", f"--comment={comment}", "x.sbatch"), user="qs_bob"
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    line = f"{held} JobHeldUser 0 qs_alice qslurm then=any at=c2 key={key}"
    forged = marked(f"x\n{line}\n {line}")
    follows = marked(f"qslurm then=any at=c2 key={key}")
    kill(testbed, "releaser")
    testbed.up()
    alice.sees_on_c1(follows, "CANCELLED")
    assert "another user" in alice.on_c1(follows)["AdminComment"]
    assert alice.on_c1(held)["Reason"] == "JobHeldUser"
    done = testbed.c1(("scancel", str(forged), str(held)), user="root")
    assert done.returncode == 0, done.stderr


BANNER = (
    '#!/bin/bash\necho Welcome to Snellius\necho 4711\n/usr/bin/sbatch "$@"; code=$?\necho Bye\nexit $code\n'
)
TOLD = "#!/bin/bash\n#SBATCH --mem=10 --output=told-%j.out\n#SBATCH {}\necho told $QSLURM_C2_JOB\n"


def test_whatever_scripts_shells_and_wrappers_say_to_sbatch_a_follow_up_runs_or_nothing_is_left(alice):
    (alice.folder / "bin").mkdir(exist_ok=True)
    wrapper = alice.folder / alice.writes("bin/sbatch", BANNER)
    wrapper.chmod(0o755)
    path = {"PATH": f"{wrapper.parent}:{alice.testbed.env_c1()['PATH']}"}
    followed = []
    for options, environment in (
        ("--quiet", {}),
        ("--parsable --comment=mine --hold", {}),
        ("--export=NONE", {}),
        ("--array=1-2", {}),
        ("", {"SBATCH_EXPORT": "HOME", "SBATCH_WAIT": "1", "SBATCH_DEBUG": "1", "SQUEUE_FORMAT": "%i"}),
    ):
        script = alice.writes(f"told{len(followed)}.sbatch", TOLD.format(options))
        done = alice.types(
            "submit",
            "bell.cq",
            "--backend",
            "qx",
            "--hold",
            "--then",
            script,
            "--json",
            **path,
            **environment,
        )
        assert done.returncode == 0, done.stderr
        followed.append(json.loads(done.stdout))
    queued = alice.testbed.c1(("squeue", "--noheader", "--array-unique", "--format=%i")).stdout
    for options in ("--test-only", "--wait", "--clusters=other", "--no-such-option"):
        script = alice.writes("never.sbatch", TOLD.format(options))
        done = alice.types("submit", "bell.cq", "--backend", "qx", "--hold", "--then", script, **path)
        assert done.returncode in (2, 3), options
    assert alice.testbed.c1(("squeue", "--noheader", "--array-unique", "--format=%i")).stdout == queued
    alice.types("release", *(str(one["job_id"]) for one in followed))
    for one in followed:
        alice.sees_on_c1(one["follow_up"], "COMPLETED")
        said = (alice.folder / f"told-{one['follow_up']}.out").read_text()
        assert said == f"told {alice.gets('show', str(one['job_id']))['key']}\n"


def test_only_the_releaser_is_told_how_others_jobs_ended(alice):
    program = (
        "import sys; from qslurm.c1.config.center_config import load_config\n"
        "from qslurm.c1.connection.agent_connection import AgentConnection\n"
        "from qslurm.c1.connection.agent_messages import CancelBound, GetOutcomes\n"
        "agent = AgentConnection(load_config(), print)\n"
        "for question in (GetOutcomes([], 'snellius'), CancelBound('x' * 32)):\n"
        "    try: agent.ask(question, object)\n"
        "    except Exception as error: print(error.kind)\n"
    )
    done = alice.testbed.c1((alice.testbed.layout.python, "-I", "-c", program), **alice.environment)
    assert done.stdout.split() == ["permission", "permission"], done.stderr


def test_what_sbatch_refuses_is_not_sent(alice):
    alice.writes("bad.sbatch", "#!/bin/bash\n#SBATCH --partition=nowhere\n")
    before = len(alice.gets("queue", "--all")["jobs"])
    done = alice.types("submit", "bell.cq", "--backend", "qx", "--then", "bad.sbatch")
    assert done.returncode == 3
    assert "invalid partition" in done.stderr
    assert len(alice.gets("queue", "--all")["jobs"]) == before


def test_what_c2_refuses_takes_its_follow_up_along(alice):
    done = alice.types("submit", "bell.cq", "--backend", "nowhere", "--then", "next.sbatch")
    assert done.returncode == 3
    c1_job = int(re.search(r"job (\d+)", done.stderr)[1])
    assert alice.on_c1(c1_job)["JobState"] == "CANCELLED"


def test_without_an_agent_there_are_no_follow_ups(alice):
    done = Researcher(alice.testbed).types("submit", "bell.cq", "--backend", "qx", "--then", "next.sbatch")
    assert done.returncode == 2
    assert "releaser" in done.stderr


def test_a_waiting_job_takes_its_c2_job_along_with_and_without_an_agent(alice):
    testbed = alice.testbed
    ways = [None, {"QSLURM_CONFIG": str(testbed.layout.c1_qslurm)}]
    cancelled = [alice.waits_in_a_job(environment=way) for way in ways]
    timed_out = [alice.waits_in_a_job(environment=way) for way in ways]
    several = ("bell.cq", "bell.cq", "bell.cq")
    cancelled += [alice.waits_in_a_job(environment=way, files=several) for way in ways]
    kept = [alice.waits_in_a_job("--keep", environment=way) for way in ways]
    killed = alice.waits_in_a_job()  # at once, so that only the agent can know
    pids = testbed.c1(("scontrol", "listpids", str(killed[1])), user="root").stdout
    for pid in re.findall(r"^(\d+)", pids, re.MULTILINE):
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    testbed.c1(("scancel", *(str(c1_job) for _, c1_job in cancelled + kept)))
    for (
        _,
        c1_job,
    ) in timed_out:  # EndTime=now is a second ago for slurmctld, which then refuses it, now and then
        done = testbed.c1(("scontrol", "update", f"JobId={c1_job}", "TimeLimit=0"), user="root")
        assert done.returncode == 0, done.stderr
    sees = Researcher(testbed)  # by the center's token: the agent knows only what it has sent
    for job_id, _ in [*cancelled, killed, *timed_out]:
        assert sees.ends_as(job_id) == "CANCELLED"
    for _, c1_job in timed_out:
        alice.sees_on_c1(c1_job, "TIMEOUT")
    for job_id, c1_job in kept:
        alice.sees_on_c1(c1_job, "CANCELLED")
        assert sees.sees(job_id) == "PENDING"
        assert sees.types("cancel", str(job_id)).returncode == 0


def test_what_is_held_here_stands_below_the_jobs_that_it_follows_and_before_nobody_else(alice):
    job_id, follow_up = alice.submits_followed("bell.cq", "--backend", "qx", "--hold", "--then-if", "any")
    shown = {"job_id": follow_up, "user": alice.user, "follows": str(job_id), "then_if": "any"}
    listed = alice.gets("queue")["follow_ups"]
    assert {**shown, "platform": "c2"} in listed
    printed = alice.types("queue", SQUEUE_PARTITION="nowhere").stdout
    assert re.search(rf"^{follow_up} +{alice.user} +{job_id} +any$", printed, re.MULTILINE), printed
    bob = Client(alice.testbed, "qs_bob")
    assert bob.gets("queue")["follow_ups"] == []
    assert alice.types("cancel", str(job_id)).returncode == 0
    eventually(lambda: not alice.gets("queue", "--key", "x")["follow_ups"], "nothing to be shown for no job")
    alice.sees_on_c1(follow_up, "COMPLETED", "FAILED")
    assert follow_up not in [one["job_id"] for one in alice.gets("queue", "--all")["follow_ups"]]
