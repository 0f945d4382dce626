"""deploy/c2/job_submit.lua in a real slurmctld, and partitions that are DOWN."""

from __future__ import annotations

import re
import subprocess
import time
import uuid
from collections.abc import Iterator

import pytest
from people import site_rule
from testbed import Testbed

pytestmark = pytest.mark.slurm
CENTER = "center_snellius"


@pytest.fixture
def c2(testbed: Testbed) -> Iterator[Testbed]:
    """C2 with its partitions DOWN, as slurm.conf says, and nobody who opens them."""
    if testbed.pid("gate"):
        testbed.stop("gate")
    set_partition(testbed, "DOWN")
    yield testbed
    testbed.c2(["scancel", "--partition=p_qx", f"--user={CENTER}"])
    testbed.c2(["scancel", "--partition=p_qx", "--user=center_lumi"])


def set_partition(testbed: Testbed, state: str) -> None:
    done = testbed.c2(["scontrol", "update", "PartitionName=p_qx", f"State={state}"])
    assert done.returncode == 0, done.stderr


def sbatch(testbed: Testbed, *options: str, user: str = CENTER) -> subprocess.CompletedProcess[str]:
    return testbed.c2(
        ["sbatch", "--parsable", "--partition=p_qx", "--chdir=/", *options, "--wrap=true"], user=user
    )


def submitted(testbed: Testbed, *options: str, user: str = CENTER) -> int:
    done = sbatch(testbed, *options, user=user)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def job(testbed: Testbed, job_id: int) -> dict[str, str]:
    text = testbed.c2(["scontrol", "show", "job", "--oneliner", str(job_id)]).stdout
    return dict(re.findall(r"(\S+?)=(\S*)", text))


def new_key() -> str:
    return f"--comment=qslurm key={uuid.uuid4().hex} kind=script"


def test_a_partition_that_is_down_accepts_and_holds(c2: Testbed) -> None:
    facts = job(c2, submitted(c2))
    assert (facts["JobState"], facts["Reason"]) == ("PENDING", "PartitionDown")


def test_a_key_is_accepted_once(c2: Testbed) -> None:
    key = new_key()
    submitted(c2, key)
    for _ in range(5):
        again = sbatch(c2, key)
        assert again.returncode != 0
        assert "Duplicate job id" in again.stderr


@pytest.mark.parametrize("others", [1, 2, 5])
def test_a_key_is_accepted_once_however_fast_it_comes_after_others(c2: Testbed, others: int) -> None:
    """Within one second of another change slurmctld shows its plugins an old list of jobs."""
    for _ in range(others):
        submitted(c2, new_key())
    key = new_key()
    submitted(c2, key)
    assert "Duplicate job id" in sbatch(c2, key).stderr


def test_a_key_is_known_after_a_restart_of_slurmctld(c2: Testbed) -> None:
    key = new_key()
    submitted(c2, key)
    c2.restart("slurmctld-c2")
    assert "Duplicate job id" in sbatch(c2, key).stderr


def test_a_key_is_still_known_when_its_job_is_over(c2: Testbed) -> None:
    key = new_key()
    job_id = submitted(c2, key)
    assert c2.c2(["scancel", str(job_id)]).returncode == 0
    assert "Duplicate job id" in sbatch(c2, key).stderr


@pytest.mark.parametrize(
    "written", ["Comment=moved by ops", "AdminComment=moved by ops", "Comment=qslurm key=other"]
)
def test_a_key_is_still_known_when_an_operator_has_written_on_its_job(c2: Testbed, written: str) -> None:
    key = new_key()
    job_id = submitted(c2, key)
    field, _, text = written.partition("=")
    done = c2.c2(["scontrol", "update", f"JobId={job_id}", written])
    assert done.returncode == 0, done.stderr
    shown = c2.c2(["squeue", "--noheader", f"--jobs={job_id}", f"--Format={_COLUMNS[field]}:1024"]).stdout
    assert shown.rstrip() == f"{key.removeprefix('--comment=')} -- {text}"
    submitted(c2)  # slurmctld shows its plugins a new list of jobs
    assert "Duplicate job id" in sbatch(c2, key).stderr


_COLUMNS = {"Comment": "Comment", "AdminComment": "admin_comment"}


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_key_is_accepted_once_where_a_site_writes_the_comments(where: str, c2: Testbed) -> None:
    key = new_key()
    environment = f"--export=NONE,QSLURM_SUBMISSION={key.removeprefix('--comment=')}"
    with site_rule(c2, **{where: 'job.comment = "project 7"'}):
        job_id = submitted(c2, key, environment)
        assert job(c2, job_id)["Comment"] == "project"  # as far as this reads it
        submitted(c2)  # slurmctld shows its plugins a new list of jobs
        assert "Duplicate job id" in sbatch(c2, key, environment).stderr


def test_a_center_can_not_block_another_centers_key(c2: Testbed) -> None:
    key = new_key()
    submitted(c2, key, user="center_lumi")
    submitted(c2, key, user=CENTER)


def test_a_key_that_slurm_refused_for_another_reason_may_be_sent_again(c2: Testbed) -> None:
    key = new_key()
    assert "time limit is invalid" in sbatch(c2, key, "--time=99-0").stderr
    deadline = time.monotonic() + 10
    while (again := sbatch(c2, key)).returncode:  # in the same second, the plugin can't tell
        assert "Duplicate job id" in again.stderr
        assert time.monotonic() < deadline
        submitted(c2)


def test_jobs_without_a_key_are_never_duplicates(c2: Testbed) -> None:
    submitted(c2, "--comment=mine")
    submitted(c2, "--comment=mine")


def test_output_goes_where_the_job_manager_reads_it(c2: Testbed) -> None:
    job_id = submitted(c2, "--output=/tmp/elsewhere", "--error=/tmp/elsewhere")
    facts = job(c2, job_id)
    log = f"{c2.layout.job_logs}/{CENTER}/{job_id}.out"
    assert (facts["StdOut"], facts["StdErr"]) == (log, log)


def test_a_job_without_a_folder_runs_in_its_centers(c2: Testbed) -> None:
    assert job(c2, submitted(c2))["WorkDir"] == f"{c2.layout.work}/{CENTER}"


def test_every_job_can_be_requeued(c2: Testbed) -> None:
    assert job(c2, submitted(c2, "--no-requeue"))["Requeue"] == "1"


def test_a_job_that_the_prolog_turns_away_goes_back_into_the_queue(c2: Testbed) -> None:
    if c2.pid("dispatcher"):
        c2.stop("dispatcher")
    job_id = submitted(c2, "--no-requeue", new_key())
    set_partition(c2, "UP")
    deadline = time.monotonic() + 120
    while (facts := job(c2, job_id))["Restarts"] == "0" or facts["JobState"] == "COMPLETING":
        assert facts["JobState"] != "CANCELLED"
        assert time.monotonic() < deadline, facts
        time.sleep(0.1)
    assert facts["JobState"] == "PENDING"
    assert c2.c2(["sinfo", "--noheader", "--Node", "--partition=p_qx", "--format=%t"]).stdout.split() == [
        "idle"
    ]
