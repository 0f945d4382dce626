"""Changes of a job reach the users who wait for it, without requests to slurmrestd, and no other center."""

import os
import signal
from pathlib import Path

import pytest
import requests
from people import AgentUser, eventually, operator

pytestmark = pytest.mark.slurm


# Its futures look at jobs at their beginning, and not again in an hour.
PROGRAM = """
import concurrent.futures
from qslurm import Center
from qslurm.c1.connection import polling

polling.FIRST_DELAY_S = polling.LONGEST_DELAY_S = 3600.0
FLIP = "version 3.0; qubit q; bit b; X q; b = measure q"
with Center(backend="qx") as center:
    jobs = [center.submit(FLIP, shots=number) for number in (1, 2, 3)]
    jobs.append(center.submit(FLIP, array="0-2", shots=4))
    for job in concurrent.futures.as_completed(jobs, timeout=100):
        job.result()
    print([result.counts["1"] for result in center.map([FLIP] * 24, shots=5, timeout=100)] == [5] * 24)
"""


@pytest.fixture
def alice(testbed):
    testbed.up()
    operator(testbed, "partition", "enable", "p_qx")
    operator(testbed, "partition", "drain", "p_spin2")
    yield AgentUser(testbed)
    testbed.up()
    testbed.c2(("scancel", "--user=center_snellius", "--partition=p_spin2"))
    operator(testbed, "partition", "enable", "p_spin2")


def held_job(alice):
    """A pending job in a partition that is down."""
    return alice.submits(alice.has_example("bell.cq"), "--backend", "spin2")


def changes(testbed, center, path="changes"):
    headers = {"Authorization": f"Bearer {testbed.token(center)}"}
    answer = requests.get(f"{testbed.results_url}/v1/{path}", headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return [job[0] for job in answer.json()["jobs"]]


def watches(testbed):
    """The pids of the gate's watching squeues in this testbed."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
            if b"--iterate=1" in words:
                environment = (folder / "environ").read_bytes()
                if str(testbed.layout.c2_conf).encode() in environment:
                    found.append(int(folder.name))
        except OSError:
            continue  # it has ended
    return found


def test_a_change_is_at_who_waits_while_slurmrestd_is_stopped(alice, pool):
    testbed = alice.testbed
    job_id = held_job(alice)
    eventually(lambda: alice.gets("show", str(job_id))["reason"] == "PartitionDown", "the agent to follow")
    testbed.stop("slurmrestd")
    waiting = pool.submit(alice.types, "wait", str(job_id))

    def listed():
        return next(job for job in alice.gets("queue")["jobs"] if job["job_id"] == job_id)

    eventually(lambda: listed()["position"], "its place in line")
    assert listed()["state"] == "PENDING"
    assert testbed.c2(("scancel", str(job_id))).returncode == 0
    done = waiting.result()
    assert done.returncode == 7, done.stderr
    assert str(job_id) in done.stderr
    assert alice.sees(job_id) == "CANCELLED"


def test_a_programs_futures_hear_of_it_from_the_agent(alice):
    alice.writes("heard.py", PROGRAM)
    words = (alice.testbed.layout.python, "-I", "heard.py")
    done = alice.testbed.c1(words, user=alice.user, timeout_s=300, **alice.environment)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_an_array_is_waited_for_to_its_last_task(alice):
    done = alice.types("submit", alice.has_example("bell.cq"), "--backend", "qx", "--array", "1-3", "--wait")
    assert done.returncode == 0, done.stderr


def test_without_the_job_manager_slurmrestd_is_asked_and_then_the_stream_again(alice, pool):
    testbed = alice.testbed
    job_id, other = held_job(alice), held_job(alice)
    testbed.stop("jobmanager")
    waiting = pool.submit(alice.types, "wait", str(job_id))
    assert testbed.c2(("scancel", str(job_id))).returncode == 0
    assert waiting.result().returncode == 7
    testbed.start("jobmanager")
    testbed.stop("slurmrestd")  # the stream is the only way to hear of it
    assert testbed.c2(("scancel", str(other))).returncode == 0
    assert alice.types("wait", str(other)).returncode == 7


def test_another_center_hears_nothing(alice):
    testbed = alice.testbed
    job_id = held_job(alice)
    eventually(lambda: job_id in changes(testbed, "snellius"), "its own center to hear")
    assert job_id in changes(testbed, "snellius", "queue")
    assert job_id not in changes(testbed, "lumi") + changes(testbed, "lumi", "queue")


def test_a_gate_that_is_killed_leaves_nothing_and_the_next_one_tells_on(alice):
    testbed = alice.testbed
    job_id = held_job(alice)
    eventually(lambda: watches(testbed), "the gate to watch")
    os.kill(testbed.pid("gate"), signal.SIGKILL)
    eventually(lambda: not watches(testbed), "its squeues to end")
    testbed.up()
    assert testbed.c2(("scancel", str(job_id))).returncode == 0
    eventually(lambda: job_id in changes(testbed, "snellius"), "the next gate to tell")
    assert alice.types("wait", str(job_id)).returncode == 7


def test_a_name_that_looks_like_squeues_lines_is_a_name(alice):
    name = "a|b\n77777|RUNNING|None|p_qx|center_lumi|lumi"
    job_id = alice.testbed.c2(
        ("sbatch", "--parsable", "--partition=p_spin2", "--chdir=/", f"--job-name={name}"),
        user="center_snellius",
        stdin="#!/bin/sh\n",
    ).stdout.strip()
    eventually(lambda: int(job_id) in changes(alice.testbed, "snellius"), "the job to be there")
    assert 77777 not in changes(alice.testbed, "lumi") + changes(alice.testbed, "snellius")
