"""A backend's queue: what waits for it, kept so that the next one is known at once, however long it is.

It answers what policy.choose would answer, from the order in which line.py keeps what waits. Around the policy stand
reservations (who may go at all) and sessions (who goes before the policy is asked; see holds.py).
Times are monotonic seconds, except `at`, which is Unix time: reservations are made by people's clocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sortedcontainers import SortedList

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.scheduling.fair_share import MINIMUM_S, FairShares
from qslurm.c2.scheduling.policy import POLICIES, QueuedExecution, Rank, coupling
from qslurm.c2.scheduling.reservations import Reservation, in_force
from qslurm.c2.scheduling.session_holds import Rhythm, SessionHold, SessionHolds
from qslurm.c2.scheduling.waiting_order import WaitingOrder

_LAST_COUNTS = 0.1  # of an execution's seconds, against the mean of those before


@dataclass(frozen=True, slots=True)
class _Given:
    """An execution that runs, since when, and what its center was charged for it."""

    waiting: QueuedExecution
    since: float
    charged: float


class BackendQueue:
    """What waits for one backend, and what runs there."""

    def __init__(self, config: BackendConfig) -> None:
        self.policy = POLICIES[config.policy]
        self.shares = FairShares(config.weights, config.half_life_s)
        self.reservations: dict[int, Reservation] = {}
        self._mean_s = 0.0  # of what executions take, the last ones counting most; 0 before the first
        self._places = config.places
        self._holds = SessionHolds(
            config.places, idle_s=config.session_idle_s, longest_s=config.session_max_s
        )
        self.line = WaitingOrder(self.policy, config.ageing_s, self.shares)
        self._given: dict[tuple[int, int], _Given] = {}
        self._rhythms: dict[int, Rhythm] = {}
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self.line)

    @property
    def seconds(self) -> float:
        """What an execution is expected to take."""
        return max(self._mean_s, MINIMUM_S)

    @property
    def running(self) -> int:
        """How many executions run."""
        return len(self._given)

    # --- what changes --------------------------------------------------------------------------------

    def add(self, waiting: QueuedExecution, now: float) -> None:
        """An execution is asked for; when, and how its job couples, is noted here."""
        rhythm = self._rhythms.setdefault(waiting.job, Rhythm(waiting.center))
        rhythm.ask(now)
        idle = self._holds.resume(waiting.job, now)
        if idle and self.line:
            self.shares.charge(waiting.center, idle, now)
        self.line.put(replace(waiting, arrived=now, coupling=coupling(rhythm.gap_s)))

    def take(self, now: float, at: float) -> QueuedExecution | None:
        """The next execution for an idle quantum runtime; None if none may start now. It runs from now on."""
        chosen = self.choose(now, at)
        if chosen is not None:
            self._begin(chosen, now)
        return chosen

    def take_this(self, task: int, seq: int, now: float) -> None:
        """An execution that waits turns out to run already."""
        self._begin(self.line.of(task, seq), now)

    def finish(self, task: int, seq: int, seconds: float, now: float) -> None:
        """An execution that ran is over, after so many seconds of the backend."""
        given = self._given.pop((task, seq))
        took = max(seconds, MINIMUM_S)
        self._learn(took)
        self._charge(given.waiting.center, took - given.charged, given.since)
        self._rest(given.waiting.job, now)

    def give_back(self, task: int, seq: int) -> None:
        """What ran has lost its quantum runtime: it waits again, where it stood."""
        given = self._given.pop((task, seq))
        self._charge(given.waiting.center, -given.charged, given.since)
        rhythm = self._rhythms[given.waiting.job]
        rhythm.running -= 1
        rhythm.waiting += 1
        self.line.put(given.waiting)

    def withdraw(self, task: int, seq: int, now: float) -> None:
        """Nobody wants an execution any more; if it runs, what it has used so far counts."""
        given = self._given.get((task, seq))
        if given is not None:
            self.finish(task, seq, now - given.since, now)
            return
        waiting = self.line.of(task, seq)
        self.line.remove(waiting)
        self._rhythms[waiting.job].waiting -= 1

    def forget(self, job: int) -> None:
        """A job has ended; while another start of it has something under way, nothing is forgotten."""
        rhythm = self._rhythms.get(job)
        if rhythm is not None and not rhythm.waiting and not rhythm.running:
            self._holds.end(job)
            del self._rhythms[job]

    def note_leased(self, job: int, center: str, seconds: float, now: float) -> None:
        """A job has executed something that did not go through this queue."""
        took = max(seconds, MINIMUM_S)
        self._learn(took)
        self._charge(center, took, now)
        if job in self._rhythms:
            self._rhythms[job].ended_at = now

    def charge(self, center: str, seconds: float, when: float) -> None:
        """Note what a center has used before."""
        self._charge(center, seconds, when)

    # --- what is asked -------------------------------------------------------------------------------

    def choose(self, now: float, at: float) -> QueuedExecution | None:
        """What `take` would take."""
        self._end_overdue(now)
        window = in_force(self.reservations.values(), at)
        kept = 0
        for hold in self._holds.all():
            if not self._admits(window, hold.job):
                continue
            if self._goes_first(hold):
                return self.line.numbered(self.line.of_job(hold.job)[0][1])
            kept += hold.idle_since is not None
        if not self.line or (kept and self._places - self.running <= kept):
            return None
        if window is None:
            return self.line.first()
        keys = self.reserved_keys(window)
        return self.line.numbered(keys[0][1]) if keys else None

    def admits(self, job: int, center: str, at: float) -> bool:
        """Whether a job may have the backend at all: it is not reserved, or reserved for it."""
        window = in_force(self.reservations.values(), at)
        return window is None or window.admits(center, job)

    def coupling(self, job: int) -> float:
        """How often a job couples, as far as it has gone through this queue."""
        rhythm = self._rhythms.get(job)
        return coupling(None if rhythm is None else rhythm.gap_s)

    def reserved_keys(self, window: Reservation) -> SortedList[Rank]:
        """What waits of those whom a reservation is for."""
        line = self.line
        return line.of_job(window.job_id) if window.job_id else line.of_center(window.center)

    def reservations_of_job(self, job: int, at: float) -> list[Reservation]:
        """The windows that are open for this very job."""
        return [one for one in self.reservations.values() if one.job_id == job and one.begins <= at]

    def first_jobs(self, at: float) -> list[int]:
        """The jobs whose sessions let them go before the others."""
        window = in_force(self.reservations.values(), at)
        return [hold.job for hold in self._holds.all() if self._admits(window, hold.job)]

    def sessions(self) -> list[tuple[SessionHold, str, float | None]]:
        """Every session, its job's center, and when it ends at the latest (None: nothing ends it yet)."""
        found = []
        for hold in self._holds.all():
            rhythm = self._rhythms[hold.job]
            others_wait = len(self.line) > rhythm.waiting
            found.append((hold, rhythm.center, self._holds.until(hold, others_wait=others_wait)))
        return found

    def is_kept_free(self) -> bool:
        """Whether what waits has to wait because places are kept for jobs that have sessions."""
        kept = sum(hold.idle_since is not None for hold in self._holds.all())
        return 0 < self._places - self.running <= kept

    def next_event(self, now: float, at: float) -> float:
        """When an execution may start that may not now; `now` if such a moment has passed since the last asking."""
        passed = self._end_overdue(now) or any(
            self._looked < one.ends <= at for one in self.reservations.values()
        )
        self._looked = at
        if passed:
            return now
        ends = (now + one.ends - at for one in self.reservations.values() if one.ends > at)
        return min(self._holds.next_event(), min(ends, default=float("inf")))

    # --- what runs -----------------------------------------------------------------------------------

    def _begin(self, chosen: QueuedExecution, now: float) -> None:
        # before `remove`, which puts the center in its new place
        self.shares.charge(chosen.center, self.seconds, now)
        self.line.remove(chosen)
        rhythm = self._rhythms[chosen.job]
        rhythm.waiting -= 1
        rhythm.running += 1
        if chosen.hybrid:
            self._holds.begin(chosen.job, now)
        self._given[chosen.task, chosen.seq] = _Given(chosen, now, self.seconds)

    def _learn(self, took: float) -> None:
        self._mean_s = self._mean_s + _LAST_COUNTS * (took - self._mean_s) if self._mean_s else took

    def _charge(self, center: str, seconds: float, when: float) -> None:
        self.shares.charge(center, seconds, when)
        if self.policy.by_center:
            self.line.place(center)

    # --- sessions ------------------------------------------------------------------------------------

    def _admits(self, window: Reservation | None, job: int) -> bool:
        rhythm = self._rhythms.get(job)
        return window is None or (rhythm is not None and window.admits(rhythm.center, job))

    def _goes_first(self, hold: SessionHold) -> bool:
        rhythm = self._rhythms[
            hold.job
        ]  # a session is one place: its second circuit at a time is like others'
        return rhythm.waiting > 0 and rhythm.running == 0

    def _rest(self, job: int, now: float) -> None:
        rhythm = self._rhythms[job]
        rhythm.running -= 1
        rhythm.ended_at = now
        if not rhythm.running and not rhythm.waiting:
            self._holds.rest(job, rhythm.gap_s, now)

    def _end_overdue(self, now: float) -> bool:
        over = False
        for hold in self._holds.all():
            rhythm = self._rhythms[hold.job]
            others_wait = len(self.line) > rhythm.waiting
            idle = self._holds.overdue(hold, now, others_wait=others_wait)
            if idle is None:
                continue
            over = True
            if idle and others_wait:
                self._charge(rhythm.center, idle, now)
        return over
