"""The health of a quantum target: whether it can execute circuits, and if not, why."""

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
    """A circuit was not executed for a reason that lies in the target, not in the circuit: it is queued again.

    `begun`: it may have been executed, and its outcome is lost. Such a circuit is retried once at most.
    """

    kind = "try_later"

    def __init__(self, message: str, *, begun: bool) -> None:
        super().__init__(message)
        self.begun = begun


class RetryDelay:
    """How long to leave a failing target alone, longer after each error. `target` is its name in messages."""

    def __init__(self, target: str) -> None:
        self.error = ""
        self._target = target
        self._backoff = Backoff(1.0, 30.0, at_once=True)
        self._until = 0.0

    def fail(self, error: str) -> None:
        """Note an error and start the delay."""
        self.error = error
        self._until = time.monotonic() + self._backoff.fail()

    def is_over(self) -> bool:
        """Whether the delay has passed."""
        return time.monotonic() >= self._until

    def health(self) -> Health:
        """The health to report while the target fails."""
        return Health("offline", f"{self._target} failed: {self.error}")
