"""The way of a job of each kind: from C1 to C2, through the dispatcher, and back."""

import json

import pytest
from people import Researcher, eventually, operator

pytestmark = pytest.mark.slurm


@pytest.fixture
def alice(testbed):
    for partition in ("p_qx", "p_spin2"):
        operator(testbed, "partition", "enable", partition)
    return Researcher(testbed)


def test_an_sbatch_script_on_c1_gets_a_bell_pair_from_c2(alice):
    alice.has_example("bell.cq")
    alice.sbatches(
        "job.sbatch", "#!/bin/bash\nqslurm submit bell.cq --backend qx --shots 1000 --wait --json\n"
    )
    output = alice.folder / "job.sbatch.out"
    document = json.loads(
        eventually(
            lambda: output.exists() and output.read_text().endswith("\n") and output.read_text(),
            "the result on C1",
        )
    )
    assert document["state"] == "COMPLETED"
    assert set(document["results"]["counts"]) == {"00", "11"}
    assert document["results"]["shots"] == 1000
    assert document["origin"].startswith("slurm:snellius:")
    assert document["origin"].endswith(":qs_alice")


def test_a_hybrid_job_runs_as_the_centers_user_beside_the_backend(alice):
    alice.writes(
        "who.py",
        "import getpass\n"
        "def execute(qi):\n"
        "    qi.execute_circuit('version 3.0; qubit q; bit b; X q; b = measure q', 10)\n"
        "    print('hello from', getpass.getuser())\n"
        "def finalize(measured):\n"
        "    return {'user': getpass.getuser(), 'measured': measured}\n",
    )
    job_id = alice.submits("who.py", "--backend", "spin2")
    assert alice.ends_as(job_id) == "COMPLETED"
    results = alice.gets("results", str(job_id))
    assert results["final_result"] == {"user": "center_snellius", "measured": [{"1": 10}]}
    assert results["executions"] == 1
    assert "hello from center_snellius" in alice.types("logs", str(job_id)).stdout


def test_a_batch_script_runs_on_c2_and_its_output_comes_back(alice):
    job_id = alice.submits(alice.has_example("hello.sh"), "--backend", "qx")
    assert alice.ends_as(job_id) == "COMPLETED"
    assert alice.types("logs", str(job_id)).stdout.strip()
    assert alice.gets("results", str(job_id))["kind"] == "script"


def test_the_papers_payload_works_as_printed(alice):
    job_id = alice.submits(alice.has_example("payload.json"))
    assert alice.ends_as(job_id) == "COMPLETED"
    assert "hello world" in alice.types("logs", str(job_id)).stdout


def test_a_time_limit_ends_a_job_with_exit_code_8(alice):
    alice.writes("endless.sh", "#!/bin/bash\nsleep 600\n")
    job_id = alice.submits("endless.sh", "--backend", "qx", "--time", "1")
    alice.waits_until(job_id, "RUNNING")
    # Slurm looks for jobs over their limit once in half a minute; the limit itself is a minute at least.
    done = alice.testbed.c1(("qslurm", "wait", str(job_id)), timeout_s=150)
    assert done.returncode == 8, done.stderr
    assert "time limit" in done.stderr


def test_a_script_that_a_signal_ends_says_which_wherever_its_end_is_told(alice):
    alice.writes("crash.sh", "#!/bin/bash\nkill -SEGV $$\n")
    done = alice.types("submit", "crash.sh", "-b", "qx", "--wait", "--parsable")
    job_id = done.stdout.strip()
    assert (done.returncode, "SIGSEGV" in done.stderr) == (6, True), done.stderr
    for words in (("wait", job_id), ("show", job_id)):
        told = alice.types(*words)
        assert "SIGSEGV" in told.stdout + told.stderr, (words, told)

    def accounted():
        jobs = json.loads(alice.types("history", "--json").stdout)["jobs"]
        return [one["signal"] for one in jobs if str(one["job_id"]) == job_id] == [11]

    eventually(accounted, "slurmdbd to know the signal")


def test_cancelling_ends_a_running_job_and_waiting_for_it_says_so(alice):
    alice.writes("sleep.sh", "#!/bin/bash\nsleep 600\n")
    job_id = alice.submits("sleep.sh", "--backend", "qx")
    alice.waits_until(job_id, "RUNNING")
    assert alice.types("cancel", str(job_id)).returncode == 0
    done = alice.types("wait", str(job_id))
    assert done.returncode == 7
    assert str(job_id) in done.stderr


def test_accounting_knows_which_center_ran_what(alice):
    job_id = alice.submits(alice.has_example("bell.cq"), "--backend", "qx")
    assert alice.ends_as(job_id) == "COMPLETED"

    def accounted():
        done = alice.testbed.c2(
            ("sacct", "-nP", "-X", f"--jobs={job_id}", "--format=Account,User,Partition,State")
        )
        return done.stdout.strip() == "snellius|center_snellius|p_qx|COMPLETED"

    eventually(accounted, "slurmdbd to know the job")
