"""The agent is killed before and after every single step of a submission, and started again: C2 has one job of it."""

from __future__ import annotations

from contextlib import suppress

import pytest

from qslurm.c1.agent.outbox import Outbox
from qslurm.c1.agent.sender import SenderThread
from qslurm.errors import DuplicateError, UnreachableError
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.rest import Submitted

STEPS = ("add", "mark_sending", "submit", "mark_accepted", "find_by_key", "mark_waiting")
PAYLOAD = {"job": {"comment": "qslurm key=key-1"}}


class Killed(BaseException):
    """SIGKILL."""


class Mortal:
    """Something that this agent uses, until it is killed at a step of a number."""

    def __init__(self, real, fate):
        self._real, self._fate = real, fate

    def __getattr__(self, name):
        found = getattr(self._real, name)
        if name not in STEPS:
            return found

        def step(*arguments, **options):
            self._fate.passes()
            answer = found(*arguments, **options)
            self._fate.passes()
            return answer

        return step


class Fate:
    """Dies at the moment with this number; there are two to each step."""

    def __init__(self, moment):
        self._left = moment

    def passes(self):
        if self._left == 0:
            raise Killed
        self._left -= 1


class C2:
    """A table that refuses a key it has. `away`: questions that it does not answer at first, having acted or not."""

    def __init__(self, away=()):
        self.slurm = self
        self.jobs = {}
        self.sent = 0
        self._away = list(away)

    def submit(self, payload):
        self.sent += 1
        key = payload["job"]["comment"].rpartition("=")[2]
        trouble = self._away.pop(0) if self._away else ""
        if trouble == "silent":
            raise UnreachableError("no link")
        if key in self.jobs:
            raise DuplicateError("known")
        self.jobs[key] = 100
        return Submitted(100)

    def find_by_key(self, key):
        return JobInfo(job_id=100, name="x", state="PENDING") if key in self.jobs else None

    def close(self):
        pass


def lives(folder, c2, fate):
    """One life of an agent: its user asks until the submission is in, and it is sent."""
    outbox = Outbox(folder)
    outbox._store.execute("PRAGMA synchronous = OFF")  # no power is cut here
    try:
        mortal = Mortal(outbox, fate)
        if outbox.by_key("key-1") is None:
            mortal.add("key-1", "ann", PAYLOAD)
        sender = SenderThread(mortal, lambda: c2, lambda *_: None)
        center = Mortal(c2, fate)
        center.slurm = center
        for _ in range(3):
            sender._send_all(center)
        (entry,) = outbox.by_number([1])
        return entry
    finally:
        outbox.close()  # of a process that is killed, nothing is written any more


@pytest.mark.parametrize("away", [(), ("silent",)])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("moment", range(12))
def test_killed_at_any_moment_once_or_twice_the_agent_has_one_job_on_c2(tmp_path, moment, times, away):
    c2 = C2(away)
    for _ in range(times):
        with suppress(Killed):
            lives(tmp_path, c2, Fate(moment))
    entry = lives(tmp_path, c2, Fate(-1))
    assert (entry.state, entry.job_id, c2.jobs) == ("accepted", 100, {"key-1": 100})
