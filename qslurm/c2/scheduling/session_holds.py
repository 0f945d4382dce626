"""Sessions: a hybrid job keeps its place at the backend from one circuit to its next.

What a hold means while others wait: a place at the backend stays free for the job's next circuit, for `idle_s`
at most, and only if the job usually comes back within that time; and a session ends `longest_s` after it began,
so that the job takes its turn like everybody else. Times are monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

_LAST_COUNTS = 0.3  # against the mean of the gaps before


@dataclass
class Rhythm:
    """How a job couples: `gap_s` is the time from an outcome to its next circuit, a moving mean (None: unknown)."""

    center: str
    waiting: int = 0
    running: int = 0
    ended_at: float | None = None
    gap_s: float | None = None

    def ask(self, now: float) -> None:
        """The job asks for an execution; one more waits."""
        if self.ended_at is not None and not self.waiting and not self.running:
            gap = max(0.0, now - self.ended_at)
            self.gap_s = gap if self.gap_s is None else self.gap_s + _LAST_COUNTS * (gap - self.gap_s)
        self.waiting += 1


@dataclass
class SessionHold:
    """A session. `idle_since` is when the job's last outcome came, None while something of it is under way."""

    job: int
    since: float
    idle_since: float | None = None


class SessionHolds:
    """The sessions at one backend, oldest first; at most one for each of its `places`."""

    def __init__(self, places: int, *, idle_s: float, longest_s: float) -> None:
        self._places = places if idle_s > 0 else 0
        self._idle_s = idle_s
        self._longest_s = longest_s
        self._holds: dict[int, SessionHold] = {}

    def all(self) -> list[SessionHold]:
        """Every session, oldest first."""
        return list(self._holds.values())

    def begin(self, job: int, now: float) -> None:
        """An execution of a job has started: it has a session from now on, if there is a place for one."""
        if job not in self._holds and len(self._holds) < self._places:
            self._holds[job] = SessionHold(job, now)

    def resume(self, job: int, now: float) -> float:
        """The job asks for its next circuit; the answer is how long a place was kept free for it."""
        hold = self._holds.get(job)
        if hold is None or hold.idle_since is None:
            return 0.0
        idle, hold.idle_since = max(0.0, now - hold.idle_since), None
        return idle

    def rest(self, job: int, gap_s: float | None, now: float) -> None:
        """Nothing of the job is under way any more: its place is kept, if it usually comes back in time."""
        hold = self._holds.get(job)
        if hold is None:
            return
        if gap_s is None or gap_s <= self._idle_s:
            hold.idle_since = now
        else:
            del self._holds[job]

    def end(self, job: int) -> None:
        """The job's session is over, if it had one."""
        self._holds.pop(job, None)

    def until(self, hold: SessionHold, *, others_wait: bool) -> float | None:
        """When a session ends at the latest, if nothing changes; None while nothing ends it."""
        ends = [] if hold.idle_since is None else [hold.idle_since + self._idle_s]
        if others_wait:
            ends.append(hold.since + self._longest_s)
        return min(ends, default=None)

    def overdue(self, hold: SessionHold, now: float, *, others_wait: bool) -> float | None:
        """End a session that has been idle too long, or that lasts too long while others wait.

        The answer is how long it has been idle, or None if it goes on.
        """
        idle = 0.0 if hold.idle_since is None else now - hold.idle_since
        if idle < self._idle_s and not (others_wait and now - hold.since >= self._longest_s):
            return None
        del self._holds[hold.job]
        return idle

    def next_event(self) -> float:
        """When `overdue` may have something to end next."""
        idle = (hold.idle_since + self._idle_s for hold in self.all() if hold.idle_since is not None)
        return min(idle, default=float("inf"))
