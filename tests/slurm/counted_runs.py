"""Scripts on C2 that record each of their runs in a file, so that a second run is noticed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from faults import Agent
from people import Researcher
from testbed import Testbed


class CountingUser(Researcher):
    """A researcher whose commands use the tested agent, with a script that records its runs."""

    def __init__(self, testbed: Testbed, agent: Agent, counter: Path) -> None:
        super().__init__(testbed, environment={"QSLURM_CONFIG": str(agent.users_config)})
        self.writes("count.sh", f"#!/bin/sh\necho 0 $SLURM_JOB_ID >> {counter}\n")


class HeldScripts:
    """Scripts that record their run, and run until `let_go`."""

    def __init__(self, user: CountingUser, counter: Path) -> None:
        self._user = user
        self._go = counter.with_suffix(".go")
        user.writes(
            "held.sh",
            f"#!/bin/sh\necho 0 $SLURM_JOB_ID >> {counter}\nuntil [ -e {self._go} ]; do sleep 0.1; done\n",
        )

    def submit(self, *words: str) -> int:
        return self._user.submits("held.sh", "--backend", "qx", *words)

    def let_go(self) -> None:
        self._go.touch()

    def clean(self) -> None:
        self._go.unlink(missing_ok=True)


def runs(counter: Path) -> Counter[int]:
    """How often each submission has run, by its number."""
    return Counter(int(line.split()[0]) for line in counter.read_text().splitlines())
