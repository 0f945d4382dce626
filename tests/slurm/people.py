"""Researchers and operators in the stories, by the commands that they type."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from testbed import Testbed
from testbed.layout import write

from qslurm.payload.templates import shipped_folder

PATIENCE_S = 120.0
POLL_S = 0.1

T = TypeVar("T")

SLOW_HYBRID = '''
import pathlib, time

BELL = """version 3.0
qubit[2] q
bit[2] b
H q[0]
CNOT q[0], q[1]
b = measure q
"""

def execute(qi):
    for number in range({executions}):
        qi.execute_circuit(BELL, 100)
        print("executed", number + 1, flush=True)
        time.sleep({pause_s})

def finalize(list_of_measurements):
    return {{"shots": sum(sum(counts.values()) for counts in list_of_measurements), "n": len(list_of_measurements)}}
'''
"""A hybrid job that is long enough to kill something in its middle."""


def eventually(
    condition: Callable[[], T],
    what: str,
    *,
    patience_s: float = PATIENCE_S,
    seen: Callable[[], str] = lambda: "",
) -> T:
    """Poll until `condition` returns a true value, and return it.

    After `patience_s` the story fails with `what` it waited for, and with what is `seen` instead.
    """
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s for {what}{seen()}"
        time.sleep(POLL_S)
    return value


class Researcher:
    """A user of C1, in their home folder."""

    def __init__(
        self, testbed: Testbed, user: str = "qs_alice", environment: Mapping[str, str] | None = None
    ) -> None:
        self.testbed = testbed
        self.user = user
        self.environment = dict(environment or {})
        self.folder = testbed.work_folder(user)

    def has_example(self, name: str) -> str:
        """Copy an example job into the home folder; its name."""
        shutil.copy(shipped_folder() / "examples" / name, self.folder)
        return name

    def writes(self, name: str, text: str) -> str:
        """Write a file; its name."""
        (self.folder / name).write_text(text)
        return name

    def types(self, *words: str, **environment: str) -> Any:
        """Run a qslurm command; its exit code, stdout and stderr."""
        named = self.environment | environment
        return self.testbed.c1(("qslurm", *words), user=self.user, timeout_s=120, **named)

    def gets(self, *words: str) -> Any:
        """Run a qslurm command with --json, which must succeed; its document."""
        done = self.types(*words, "--json")
        assert done.returncode == 0, f"{words}: {done.stderr}{done.stdout}"
        return json.loads(done.stdout)

    def submits(self, *words: str) -> int:
        """Submit a job; the C2 job id."""
        done = self.types("submit", *words, "--parsable")
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return int(done.stdout)

    def sees(self, job_id: int) -> str:
        """The state of a C2 job."""
        state = self.gets("show", str(job_id))["state"]
        assert isinstance(state, str)
        return state

    def waits_until(self, job_id: int, *states: str) -> None:
        """Wait until a C2 job is in one of these states."""
        eventually(
            lambda: self.sees(job_id) in states,
            f"job {job_id} to be {' or '.join(states)}",
            seen=lambda: f"; it is {self.gets('show', str(job_id))}",
        )

    def ends_as(self, job_id: int) -> str:
        """Wait for a C2 job to end; its last state."""
        self.waits_until(job_id, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        return self.sees(job_id)

    def sbatches(self, name: str, script: str) -> int:
        """Submit a script to C1; the C1 job id."""
        path: Path = self.folder / name
        path.write_text(script)
        done = self.testbed.c1(("sbatch", "--parsable", f"--output={name}.out", name), user=self.user)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split(";")[0])


class AgentUser(Researcher):
    """A researcher without a token, on the host of the center's agent."""

    on_a_node = False

    def __init__(self, testbed: Testbed, user: str = "qs_alice") -> None:
        layout = testbed.layout
        config = layout.c1_qslurm.with_name("users.toml")
        address, munge_socket = f"127.0.0.1:{testbed.ports['agent']}", layout.munge_socket("c1")
        write(config, f'[agent]\naddress = "{address}"\nmunge_socket = "{munge_socket}"\n')
        environment = {"QSLURM_CONFIG": str(config)}
        if not self.on_a_node:
            environment["QSLURM_AGENT"] = str(layout.agent_socket)
        super().__init__(testbed, user, environment)


class AgentUserOnANode(AgentUser):
    """The same on a compute node: commands reach the agent by TCP, with MUNGE credentials."""

    on_a_node = True


def operator(testbed: Testbed, *words: str) -> str:
    """The output of an operator's command on C2, which must succeed."""
    done = testbed.c2(("qslurm", *words))
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return str(done.stdout)


def slurmctld_has_saved(testbed: Testbed, job_id: int) -> None:
    """Wait until C2's slurmctld has saved that a job runs; if it is killed before, it starts the job a second time.

    slurmd refuses that, and slurmctld then drains the node and holds the job. It saves within five seconds.
    """
    asked = time.time()
    done = testbed.c2(("scontrol", "update", f"JobId={job_id}", "Nice=0"))
    assert done.returncode == 0, done.stderr
    saved = testbed.layout.slurm_state("c2") / "job_state"
    eventually(lambda: saved.stat().st_mtime > asked, "slurmctld to save its jobs")


@contextmanager
def frozen(testbed: Testbed, daemon: str) -> Iterator[None]:
    """Stop a daemon by SIGSTOP meanwhile."""
    pid = testbed.pid(daemon)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def submit_plugin(testbed: Testbed, changed: Callable[[str], str]) -> Iterator[None]:
    """Change C2's job_submit.lua meanwhile."""
    path = testbed.layout.c2_conf.with_name("job_submit.lua")
    ours = path.read_text()
    _write_plugin(path, changed(ours))
    try:
        yield
    finally:
        _write_plugin(path, ours)


def site_rule(testbed: Testbed, before: str = "", after: str = "") -> AbstractContextManager[None]:
    """A site's own code in C2's job_submit.lua, before and after ours."""
    theirs = (
        "local ours = slurm_job_submit\n"
        f"function slurm_job_submit(job, partitions, uid)\n{before}\n"
        f"local answer = ours(job, partitions, uid)\n{after}\nreturn answer\nend\nreturn slurm.SUCCESS\n"
    )
    return submit_plugin(testbed, lambda ours: ours.rstrip().removesuffix("return slurm.SUCCESS") + theirs)


def _write_plugin(path: Path, text: str) -> None:
    """slurmctld reads it again only if its mtime, in seconds, is later; see slurm_lua.c."""
    later = int(path.stat().st_mtime) + 1
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.utime(new, (later, later))
    new.rename(path)


def c2_nodes(testbed: Testbed) -> str:
    """The states of C2's nodes, as sinfo shows them."""
    return str(testbed.c2(("sinfo", "--noheader", "--format=%T %E")).stdout)
