"""Ten thousand jobs in C2's queue: the time of a list, and the delay until a waiting user sees a change.

The peers are squeue on C2 and slurmrestd's list. The center's commands go through its agent. Needs root: starts and
stops a testbed of its own.
"""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import requests
from testbed import Testbed
from testbed.users import RESEARCH_GROUP

from bench.report import Report

JOBS = 10_000
AT_A_TIME = 250
"""Circuits that one `qslurm submit` is given."""

SUBMITTING = 3
USER = "qs_alice"
HELD, OPEN = "p_spin2", "p_qx"
BELL = "version 3.0\nqubit[2] q\nbit[2] b\nH q[0]\nCNOT q[0], q[1]\nb = measure q\n"
IDLE_S = 20.0
PATIENCE_S = 120.0
SIDES = {"C1: the agent": ("agent",), "C2: gate and job manager": ("gate", "jobmanager")}


def run(report: Report) -> None:
    """Fill the queue, and measure."""
    with _testbed() as testbed:
        center = Center(testbed)
        report.note(f"{JOBS} jobs submitted at {center.fill():.0f} a second")
        squeue = report.measure("squeue on C2", lambda: _seconds(testbed, ["squeue"]), unit="s")
        listing = report.measure("slurmrestd's list of jobs", center.listing, unit="s")
        for what, alone in (("through the agent", False), ("without an agent", True)):
            taken = report.measure(
                f"qslurm queue, {what}", partial(center.queue, alone=alone), unit="s", peer=squeue
            )
            report.note(f"{taken - squeue:+.2f} s to squeue, {listing / taken:.0f} times as fast as the list")
        report.measure("from scancel on C2 to the waiting user's screen", center.delay_of_cancel, unit="s")
        report.measure("from a job's end on C2 to the waiting user's screen", center.delay_of_end, unit="s")
        center.queue()  # somebody follows
        for side, daemons in SIDES.items():
            report.add(f"idle, {side}", [center.idle(daemons)], unit="%")


class Center:
    """A researcher on C1, and C2's operator."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._config = testbed.layout.c1_qslurm.with_name("bench.toml")
        self._config.write_text(f'[agent]\nsocket = "{testbed.layout.agent_socket}"\n')
        self._folder = testbed.work_folder(USER)
        self._next = 0
        self._ids: list[str] = []
        self._token = testbed.token()

    def fill(self) -> float:
        """Submit all jobs, each a different circuit; jobs per second."""
        self._operator("partition", "drain", HELD)
        self._operator("partition", "enable", OPEN)
        names = [f"{number}.cq" for number in range(JOBS)]
        for number, name in enumerate(names):
            (self._folder / name).write_text(f"{BELL}// {number}\n")
        parts = [names[at : at + AT_A_TIME] for at in range(0, JOBS, AT_A_TIME)]
        began = time.monotonic()
        with ThreadPoolExecutor(SUBMITTING) as threads:
            for said in threads.map(self._submit, parts):
                self._ids += said.split()
        return JOBS / (time.monotonic() - began)

    def _submit(self, names: Sequence[str]) -> str:
        return self._types("submit", "--separate", "--parsable", "-p", HELD, "--backend", "spin2", *names)

    def listing(self) -> float:
        """Seconds of slurmrestd's list of jobs."""
        headers = {"X-SLURM-USER-NAME": "center_snellius", "X-SLURM-USER-TOKEN": self._token}
        began = time.monotonic()
        answer = requests.get(f"{self._testbed.rest_url}/slurm/v0.0.38/jobs", headers=headers, timeout=300)
        assert len(answer.json()["jobs"]) >= JOBS
        return time.monotonic() - began

    def queue(self, *, alone: bool = False) -> float:
        """Seconds of `qslurm queue`."""
        environment = {"QSLURM_CONFIG": str(self._testbed.layout.c1_qslurm)} if alone else {}
        began = time.monotonic()
        printed = self._types("queue", **environment)
        taken = time.monotonic() - began
        assert printed.count("\n") >= JOBS - 100
        return taken

    def delay_of_cancel(self) -> float:
        """Seconds from scancel of a pending job on C2, which calls no hook, to the end of `qslurm wait`."""
        job_id = self._ids[self._next]
        self._next += 1
        with self._waiting(job_id) as screen:
            screen.says("waiting")
            assert self._testbed.c2(["scancel", job_id]).returncode == 0
            began = time.monotonic()
            screen.says("cancelled")
            return time.monotonic() - began

    def delay_of_end(self) -> float:
        """Seconds from the last line of a job's script to the end of `qslurm wait`."""
        script = self._folder / "job.sh"
        script.write_text("#!/bin/bash\nsleep 3\ndate +%s.%N\n")
        job_id = self._types("submit", "--parsable", "--backend", "qx", "job.sh").strip()
        with self._waiting(job_id) as screen:
            screen.says("completed")
            seen = time.time()
        log = self._testbed.layout.job_logs / "center_snellius" / f"{job_id}.out"
        return seen - float(log.read_text().split()[-1])

    def idle(self, daemons: Sequence[str]) -> float:
        """CPU use of idle daemons and their children, in percent of a core."""
        pids = [pid for name in daemons if (pid := self._testbed.pid(name))]
        before = _cpu_s(pids)
        time.sleep(IDLE_S)
        return (_cpu_s(pids) - before) / IDLE_S * 100

    @contextmanager
    def _waiting(self, job_id: str) -> Iterator[_Screen]:
        screen = _Screen(self._testbed, ["qslurm", "wait", job_id], self._config)
        try:
            yield screen
        finally:
            screen.close()

    def _types(self, *words: str, **environment: str) -> str:
        named = {"QSLURM_CONFIG": str(self._config)} | environment
        done = self._testbed.c1(["qslurm", *words], user=USER, timeout_s=900, **named)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _operator(self, *words: str) -> None:
        assert self._testbed.c2(["qslurm", *words]).returncode == 0


class _Screen:
    """A terminal on C1 that runs a command."""

    def __init__(self, testbed: Testbed, command: Sequence[str], config: Path) -> None:
        ours, theirs = pty.openpty()
        environment = testbed.env_c1(USER) | {"QSLURM_CONFIG": str(config), "TERM": "xterm"}
        self._process = subprocess.Popen(
            command,
            env=environment,
            user=USER,
            group=RESEARCH_GROUP,
            extra_groups=[],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._terminal = ours
        self._text = ""

    def says(self, word: str) -> None:
        """Wait until the terminal shows this word."""
        deadline = time.monotonic() + PATIENCE_S
        while word not in self._text:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, left))
            try:
                said = os.read(self._terminal, 65536) if ready else b""
            except OSError:  # the command has ended
                said = b""
            assert said, f"{word!r} never came; there was {self._text!r}"
            self._text += said.decode(errors="replace")

    def close(self) -> None:
        """End the command."""
        os.close(self._terminal)
        self._process.kill()
        self._process.wait()


@contextmanager
def _testbed() -> Iterator[Testbed]:
    testbed = Testbed("bench")
    try:
        testbed.up()
        _clear(testbed)
        yield testbed
        _clear(testbed)
    finally:
        testbed.down()


def _clear(testbed: Testbed) -> None:
    """Cancel jobs of an earlier run: pending jobs outlive the daemons."""
    testbed.c2(["scancel", "--user=center_snellius"], timeout_s=300)


def _seconds(testbed: Testbed, command: Sequence[str]) -> float:
    began = time.monotonic()
    assert testbed.c2(command).stdout.count("\n") >= JOBS - 100
    return time.monotonic() - began


def _cpu_s(pids: Sequence[int]) -> float:
    """The CPU time of processes and all their descendants, including ended children."""
    stats = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                stats[int(folder.name)] = (folder / "stat").read_text().rpartition(")")[2].split()
    family = set(pids)
    while more := {pid for pid, stat in stats.items() if int(stat[1]) in family} - family:
        family |= more
    return sum(int(word) for pid in family for word in stats[pid][11:15]) / os.sysconf("SC_CLK_TCK")
