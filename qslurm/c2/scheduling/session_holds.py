"""Sessions: a hybrid job keeps its place at the backend between two circuits.

While others wait, a place stays free for the job's next circuit for `idle_s` at most, and only if the job's circuits
usually follow within that time; and a session ends `longest_s` after it began. Times are monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

_MEAN_WEIGHT = 0.3  # of the last gap in the moving mean


@dataclass
class JobTiming:
    """A job's executions; `gap_s` is the moving mean from an outcome to its next circuit (None: unknown)."""

    center: str
    waiting: int = 0
    running: int = 0
    ended_at: float | None = None
    gap_s: float | None = None

    def add_request(self, now: float) -> None:
        """The job requests an execution."""
        if self.ended_at is not None and not self.waiting and not self.running:
            gap = max(0.0, now - self.ended_at)
            self.gap_s = gap if self.gap_s is None else self.gap_s + _MEAN_WEIGHT * (gap - self.gap_s)
        self.waiting += 1


@dataclass
class SessionHold:
    """A session. `idle_since` is the time of the job's last outcome, None while it has executions."""

    job: int
    since: float
    idle_since: float | None = None


class SessionHolds:
    """The sessions at one backend; at most one for each of its `places`."""

    def __init__(self, places: int, *, idle_s: float, longest_s: float) -> None:
        self._places = places if idle_s > 0 else 0
        self._idle_s = idle_s
        self._longest_s = longest_s
        self._holds: dict[int, SessionHold] = {}

    def all(self) -> list[SessionHold]:
        """Every session, oldest first."""
        return list(self._holds.values())

    def begin(self, job: int, now: float) -> None:
        """An execution of a job has started: begin a session if there is a place."""
        if job not in self._holds and len(self._holds) < self._places:
            self._holds[job] = SessionHold(job, now)

    def resume(self, job: int, now: float) -> float:
        """The job requests its next circuit. Returns how long a place was kept free for it."""
        hold = self._holds.get(job)
        if hold is None or hold.idle_since is None:
            return 0.0
        idle, hold.idle_since = max(0.0, now - hold.idle_since), None
        return idle

    def job_idle(self, job: int, gap_s: float | None, now: float) -> None:
        """The job has no executions: keep its place if its next circuit usually follows in time."""
        hold = self._holds.get(job)
        if hold is None:
            return
        if gap_s is None or gap_s <= self._idle_s:
            hold.idle_since = now
        else:
            del self._holds[job]

    def end(self, job: int) -> None:
        """End the job's session, if it has one."""
        self._holds.pop(job, None)

    def until(self, hold: SessionHold, *, others_wait: bool) -> float | None:
        """The latest end of a session; None if it is not limited at present."""
        ends = [] if hold.idle_since is None else [hold.idle_since + self._idle_s]
        if others_wait:
            ends.append(hold.since + self._longest_s)
        return min(ends, default=None)

    def end_if_overdue(self, hold: SessionHold, now: float, *, others_wait: bool) -> float | None:
        """End a session that was idle for too long, or that lasts too long while others wait.

        Returns how long it was idle, or None if it continues.
        """
        idle = 0.0 if hold.idle_since is None else now - hold.idle_since
        if idle < self._idle_s and not (others_wait and now - hold.since >= self._longest_s):
            return None
        del self._holds[hold.job]
        return idle

    def next_event(self) -> float:
        """When `end_if_overdue` may have something to end next."""
        idle = (hold.idle_since + self._idle_s for hold in self.all() if hold.idle_since is not None)
        return min(idle, default=float("inf"))
