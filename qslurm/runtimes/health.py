"""How a quantum target is: whether circuits can be executed, and if not, why."""

from __future__ import annotations

from typing import Literal

import msgspec

from qslurm.errors import QslurmError

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
