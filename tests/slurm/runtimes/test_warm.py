"""A warm runtime is the job's user, and ends with the job's step."""

from __future__ import annotations

import os
import pwd
import signal
import socket
from pathlib import Path

import pytest
from hybrid_jobs import ENDLESS, FINALIZE, NOTHING, HybridJobs
from testbed.layout import Layout
from testbed.process import environment, everything

from qslurm.runtimes.classical.view import WORK

pytestmark = pytest.mark.slurm


def test_a_warm_runtime_is_the_jobs_user_without_any_privilege(jobs: HybridJobs) -> None:
    source = (
        """
import os, pathlib, sys
imported = "scipy.optimize" in sys.modules
def execute(qi):
    global found
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":\\t", 1) for line in lines if ":" in line)
    found = {
        "imported": imported, "uids": os.getresuid(), "gids": os.getresgid(), "new": status["NoNewPrivs"],
        "capabilities": sorted({status[name] for name in status if name.startswith("Cap")}),
        "folder": os.getcwd(), "fds": sorted(os.listdir("/proc/self/fd"))[:3], "job": os.environ["SLURM_JOB_ID"],
        "random": __import__("numpy").random.random(), "other": __import__("random").random(),
    }
"""
        + FINALIZE
    )

    entry = pwd.getpwnam("center_snellius")
    one, two = jobs.found(source), jobs.found(source)
    for found in (one, two):
        assert found["imported"] is True
        assert found["uids"] == [entry.pw_uid] * 3
        assert found["gids"] == [entry.pw_gid] * 3
        assert found["new"] == "1"
        assert found["capabilities"] == ["0" * 16]
        assert found["folder"] == str(WORK)
    assert one["job"] != two["job"]
    assert one["random"] != two["random"]
    assert one["other"] != two["other"]


def test_a_job_ends_with_its_step_whatever_ends_that(jobs: HybridJobs) -> None:
    """scancel, and a step that is killed: the runtime, which Slurm did not start, is gone at once."""
    for end in ("scancel", "kill"):
        job_id = jobs.submit(ENDLESS)
        jobs.platform.until(lambda job_id=job_id: "begun" in jobs.log(job_id))
        runtime = jobs.runtime_of(job_id)
        assert Path(f"/proc/{runtime}").exists()
        if end == "scancel":
            jobs.platform.testbed.c2(["scancel", str(job_id)])
        else:
            os.kill(step_of(job_id, jobs.layout), signal.SIGKILL)
        jobs.platform.until(lambda runtime=runtime: not Path(f"/proc/{runtime}").exists())
        job = jobs.ended(job_id)
        assert job["state"] == ("cancelled" if end == "scancel" else "failed"), (job, jobs.log(job_id))


def step_of(job_id: int, layout: Layout) -> int:
    """The process of a job's step in this testbed, by its environment."""
    wanted = {"SLURM_JOB_ID": str(job_id), "SLURM_CONF": str(layout.c2_conf)}
    for one in everything():
        if wanted.items() <= environment(one).items() and "client.py" in command_line(one.pid):
            return one.pid
    raise AssertionError(f"job {job_id} has no step")


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has ended
        return ""


_WAITS_FOR_A_SIGNAL = (
    """
import signal, time
found = {}
def note(number, frame):
    found["signal"] = number
signal.signal(signal.SIGUSR1, note)
def execute(qi):
    print("begun", flush=True)
    while not found:
        time.sleep(0.05)
"""
    + FINALIZE
)


def _signal(jobs: HybridJobs, job_id: int) -> None:
    jobs.platform.testbed.c2(["scancel", "--batch", "--signal=USR1", str(job_id)])


def test_signals_reach_the_users_code(jobs: HybridJobs) -> None:
    job_id = jobs.submit(_WAITS_FOR_A_SIGNAL)
    jobs.platform.until(lambda: "begun" in jobs.log(job_id))
    _signal(jobs, job_id)
    assert jobs.ended(job_id)["state"] == "finished"


def test_a_restart_of_the_service_leaves_a_running_job_alone(jobs: HybridJobs) -> None:
    job_id = jobs.submit(_WAITS_FOR_A_SIGNAL)
    jobs.platform.until(lambda: "begun" in jobs.log(job_id))
    service = jobs.platform.testbed.pid("runtimes")
    assert service is not None
    os.kill(service, signal.SIGKILL)  # the testbed's own `kill` and `up` would end the job, too
    _signal(jobs, job_id)
    assert jobs.ended(job_id)["state"] == "finished"
    jobs.platform.testbed.up()


def test_rubbish_does_not_hurt_the_service(jobs: HybridJobs) -> None:
    path = str(jobs.layout.runtimes_socket)
    for message, count in ((b"", 0), (b"1", 0), (b"x" * 5000, 2), (b"1", 5), (b"1", 200), (b"status", 0)):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.connect(path)
        if message:
            socket.send_fds(link, [message], [0] * count)
        link.close()
    idle = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(100)]
    for link in idle:
        link.setblocking(False)
        link.connect_ex(path)
    pid = jobs.platform.testbed.pid("runtimes")
    assert jobs.found(NOTHING) == {"calm": True}
    for link in idle:
        link.close()
    assert jobs.platform.testbed.pid("runtimes") == pid
    assert jobs.found(NOTHING) == {"calm": True}
