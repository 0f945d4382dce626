"""`scripts/testbed`: up, status, env, down, and what remains."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from testbed import Testbed, TestbedError, base, daemon, leftovers
from testbed.daemon import Daemon
from testbed.layout import CHECKOUT
from testbed.ports import listening

pytestmark = pytest.mark.slurm

DAEMONS = [
    "munged-c1",
    "munged-c2",
    "mariadbd",
    "slurmdbd",
    "slurmctld-c1",
    "slurmctld-c2",
    "slurmd-c1",
    "slurmd-c2",
    "slurmrestd",
    "runtimes",
    "dispatcher",
    "tokens",
    "jobmanager",
    "gate",
    "agent",
    "releaser",
]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "testbed", *words],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT / "scripts" / "lib")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def pids(testbed: Testbed) -> dict[str, int | None]:
    return {one.name: one.pid for one in testbed.status()}


def test_up_twice_starts_nothing_again(testbed: Testbed) -> None:
    before = pids(testbed)
    testbed.up()
    assert pids(testbed) == before


def test_status_names_every_daemon(testbed: Testbed) -> None:
    done = command("status", "--name", testbed.name, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["up"]) == (0, True)
    assert [one["name"] for one in report["daemons"]] == DAEMONS


def test_a_researchers_job_runs_on_c1(testbed: Testbed) -> None:
    done = testbed.c1(["sbatch", "--wait", "--output=who.out", "--wrap=id --user --name; qslurm --version"])
    assert done.returncode == 0, done.stderr
    assert (testbed.work_folder() / "who.out").read_text().startswith("qs_alice\n")


def test_env_is_all_that_a_shell_needs(testbed: Testbed) -> None:
    script = (
        f'eval "$({sys.executable} -m testbed env --name {testbed.name})" && sinfo --noheader --format=%P'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT / "scripts" / "lib")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "rome*\n", done.stderr


def test_what_is_logged_of_jobs_is_for_nobody_else(testbed: Testbed) -> None:
    layout = testbed.layout
    for user in ("center_lumi", "qs_bob"):
        found = testbed.c2(
            ("find", layout.logs, layout.job_logs, "-type", "f", "-readable"), user=user
        ).stdout
        assert [line for line in found.splitlines() if f"/{user}/" not in line] == []


@pytest.mark.parametrize("name", DAEMONS)
def test_up_heals_what_was_killed(testbed: Testbed, name: str) -> None:
    before = testbed.pid(name)
    testbed.kill(name)
    assert {one.name: one.state for one in testbed.status()}[name] == "dead"
    testbed.up()
    assert testbed.is_up()
    assert testbed.pid(name) != before
    assert testbed.c1(["sbatch", "--wait", "--output=/dev/null", "--wrap=true"]).returncode == 0


def test_up_puts_a_drained_node_back(testbed: Testbed) -> None:
    """Slurm drains a node when slurmctld was killed just after a job had begun ("Duplicate jobid")."""
    done = testbed.c2(["scontrol", "update", "NodeName=ALL", "State=DRAIN", "Reason=Duplicate jobid"])
    assert done.returncode == 0, done.stderr
    assert not testbed.is_up()
    testbed.up()
    assert testbed.is_up()


def test_other_slurm_versions_are_refused_in_a_sentence() -> None:
    done = command("up", "--slurm", "19.05")
    assert done.returncode == 2
    assert "'26.05'" in done.stderr


def test_an_unknown_daemon_is_refused_in_a_sentence(testbed: Testbed) -> None:
    done = command("kill", "slurmcltd", "--name", testbed.name)
    assert done.returncode == 1
    assert "'slurmcltd'" in done.stderr
    assert "slurmctld-c1" in done.stderr


def test_a_daemon_that_fails_is_named_with_the_end_of_its_log(testbed: Testbed) -> None:
    broken = Daemon(
        "broken", "C2", ("/bin/sh", "-c", "echo out of luck; exit 1"), "root", ready=lambda: False
    )
    with pytest.raises(TestbedError, match=r"(?s)broken ended.*broken\.log:.*out of luck"):
        daemon.start(testbed.layout, broken)
    daemon.forget(testbed.layout, "broken")


def test_an_up_that_was_killed_half_way_is_made_good(other: Testbed) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "testbed", "up", "--name", other.name],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT / "scripts" / "lib")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    with process.stdout as lines:
        for line in lines:
            if "mariadbd" in line:
                break
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    other.up(only=["slurmd-c1", "slurmd-c2", "slurmrestd"])
    states = {one.name: one.state for one in other.status()}
    assert states["slurmd-c1"] == states["slurmd-c2"] == states["slurmrestd"] == "running"


def test_down_leaves_nothing(other: Testbed) -> None:
    other.up(only=["slurmd-c1", "slurmd-c2", "slurmrestd"])
    ports = other.ports
    home = other.work_folder()
    script = "setsid sleep 1000 & touch started; sleep 1000"
    assert other.c1(["sbatch", "--output=/dev/null", f"--wrap={script}"]).returncode == 0
    wait_for(home / "started")
    other.kill("slurmd-c1")  # so that nobody but the sweep can end the job
    other.down()
    assert leftovers.find(other.layout) == []
    assert [name for name, port in ports.items() if listening(port)] == []
    assert {one.state for one in other.status()} == {"stopped"}
    assert str(other.layout.base) not in mounts() or other.layout.base == other.layout.state


def wait_for(path: Path, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def mounts() -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def test_a_checkout_that_nobody_else_can_enter_works_all_the_same(testbed: Testbed) -> None:
    """Such as one below /root, or in a folder made by mktemp: everybody's path to it is a mount in /run."""
    closed = testbed.layout.state / f"closed-{testbed.name}"
    state = closed / ("deep" * 20) / ".state"
    shutil.rmtree(closed, ignore_errors=True)
    state.mkdir(parents=True)
    closed.chmod(0o700)
    subprocess.run(["cp", "-al", testbed.layout.state / "venv", state / "venv"], check=True, timeout=60)
    hidden = Testbed("hidden", state=state)
    try:
        hidden.up(only=["slurmd-c1"])
        assert hidden.layout.base.parent == base.RUN
        done = hidden.c1(["sbatch", "--wait", "--output=out", "--wrap=pwd; qslurm --version"])
        assert done.returncode == 0, done.stderr
        assert (hidden.work_folder() / "out").read_text().startswith(str(hidden.layout.base))
    finally:
        hidden.down()
        shutil.rmtree(closed)
    assert not hidden.layout.base.exists()
    assert str(hidden.layout.base) not in mounts()
