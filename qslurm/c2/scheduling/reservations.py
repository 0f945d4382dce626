"""Windows of time in which only one center, or one job, gets a backend. Plain data and plain questions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import msgspec

LONGEST_S = 366 * 86_400.0
"""The longest window, and the longest time ahead: what is beyond is a slip of the pen."""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """One window: from `begins` until `ends` (Unix seconds) only `center`, or only `job_id`, starts executions."""

    id: int
    backend: str
    begins: float
    ends: float
    center: str = ""
    job_id: int = 0
    reason: str = ""

    def admits(self, center: str, job_id: int) -> bool:
        """Whether it is for this one."""
        return job_id == self.job_id if self.job_id else center == self.center

    @property
    def holder(self) -> str:
        """For whom it is; of a job that is nobody's business, neither is said."""
        if not self.job_id and not self.center:
            return "a job"
        return f"job {self.job_id}" if self.job_id else f"center {self.center}"


def in_force(reservations: Iterable[Reservation], at: float) -> Reservation | None:
    """The window that is open at a time; of one backend there is at most one."""
    return next((one for one in reservations if one.begins <= at < one.ends), None)


def complaint(new: Reservation, others: Sequence[Reservation], now: float) -> str:
    """What speaks against a new window, as a sentence; "" for nothing."""
    if bool(new.center) == bool(new.job_id):
        return "A reservation needs a center or a job, not both."
    if not new.begins < new.ends:
        return "A reservation must end after it begins."
    if new.ends <= now:
        return "The end of the reservation is in the past."
    if new.ends > now + LONGEST_S:
        return "A reservation must end within a year."
    rival = next((one for one in others if one.begins < new.ends and new.begins < one.ends), None)
    if rival is not None:
        return (
            f"Backend {new.backend} is reserved for {rival.holder} from {moment(rival.begins)} "
            f"to {moment(rival.ends)} (reservation {rival.id})."
        )
    return ""


def moment(at: float) -> str:
    """A time in words, as this host's clock shows it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
