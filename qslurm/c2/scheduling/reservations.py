"""Reservations: windows of time in which only one center, or one job, may use a backend."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import msgspec

LONGEST_S = 366 * 86_400.0
"""How far ahead a reservation may end."""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """From `begins` until `ends` (Unix seconds), only executions of `center`, or of `job_id`, start."""

    id: int
    backend: str
    begins: float
    ends: float
    center: str = ""
    job_id: int = 0
    reason: str = ""

    def admits(self, center: str, job_id: int) -> bool:
        """Whether it is for this center or job."""
        return job_id == self.job_id if self.job_id else center == self.center

    @property
    def holder(self) -> str:
        """The holder, for messages; "a job" where the job is hidden from the reader."""
        if not self.job_id and not self.center:
            return "a job"
        return f"job {self.job_id}" if self.job_id else f"center {self.center}"


def in_force(reservations: Iterable[Reservation], at: float) -> Reservation | None:
    """The active reservation of a backend; there is at most one."""
    return next((one for one in reservations if one.begins <= at < one.ends), None)


def find_error(new: Reservation, others: Sequence[Reservation], now: float) -> str:
    """Why a new reservation is invalid, as a sentence; "" if it is valid."""
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
    """A time as text, in this host's time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
