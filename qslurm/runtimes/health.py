"""How a quantum target is: whether circuits can be executed, and if not, why."""

from __future__ import annotations

import time
from typing import Literal

import msgspec

from qslurm.errors import QslurmError
from qslurm.system.backoff import Backoff

State = Literal["idle", "executing", "calibrating", "offline"]


class Health(msgspec.Struct, frozen=True):
    """`reason` says why nothing can be executed, as part of a sentence and without a full stop."""

    state: State = "idle"
    reason: str = ""

    @property
    def ready(self) -> bool:
        """Whether circuits can be executed."""
        return self.state in {"idle", "executing"}


class TryLaterError(QslurmError):
    """A circuit could not be executed for the target's reasons, not for its own: it is queued again.

    `begun` says that it may have been executed, and its outcome is lost: then it is tried once more at most.
    """

    kind = "try_later"

    def __init__(self, message: str, *, begun: bool) -> None:
        super().__init__(message)
        self.begun = begun


class RetryDelay:
    """For how long a target in trouble is left alone, longer each time. `whose` is what operators call it."""

    def __init__(self, whose: str) -> None:
        self.trouble = ""
        self._whose = whose
        self._backoff = Backoff(1.0, 30.0, at_once=True)
        self._until = 0.0

    def add(self, why: str) -> None:
        """There is trouble, again or for the first time."""
        self.trouble = why
        self._until = time.monotonic() + self._backoff.fail()

    def over(self) -> bool:
        """Whether it has been left alone for long enough."""
        return time.monotonic() >= self._until

    def health(self) -> Health:
        """How a target in trouble is."""
        return Health("offline", f"{self._whose} failed: {self.trouble}")
