"""A backend's queue of executions, sorted so that the next one is found at once, however many wait.

The next one is that of `policy.choose`, found by waiting_order.py. Reservations restrict which jobs may run, and jobs
with a session go before the policy (session_holds.py). Times are monotonic seconds, except `at`, which is Unix time:
reservations are made in wall-clock time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sortedcontainers import SortedList

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.scheduling.fair_share import MINIMUM_S, FairShares
from qslurm.c2.scheduling.policy import POLICIES, QueuedExecution, Rank, coupling
from qslurm.c2.scheduling.reservations import Reservation, in_force
from qslurm.c2.scheduling.session_holds import JobTiming, SessionHold, SessionHolds
from qslurm.c2.scheduling.waiting_order import WaitingOrder

_MEAN_WEIGHT = 0.1  # of the last execution in the moving mean of seconds


@dataclass(frozen=True, slots=True)
class _Running:
    """A running execution, and the seconds that its center was charged in advance."""

    waiting: QueuedExecution
    since: float
    charged: float


class BackendQueue:
    """The executions that wait for one backend, and those that run there."""

    def __init__(self, config: BackendConfig) -> None:
        self.policy = POLICIES[config.policy]
        self.shares = FairShares(config.weights, config.half_life_s)
        self.reservations: dict[int, Reservation] = {}
        self._mean_s = 0.0  # moving mean of the executions' seconds; 0 before the first
        self._places = config.places
        self._holds = SessionHolds(
            config.places, idle_s=config.session_idle_s, longest_s=config.session_max_s
        )
        self.waiting_order = WaitingOrder(self.policy, config.ageing_s, self.shares)
        self._running: dict[tuple[int, int], _Running] = {}
        self._timings: dict[int, JobTiming] = {}
        self._last_check = 0.0

    def __len__(self) -> int:
        return len(self.waiting_order)

    @property
    def seconds(self) -> float:
        """The expected duration of an execution."""
        return max(self._mean_s, MINIMUM_S)

    @property
    def running(self) -> int:
        """The number of running executions."""
        return len(self._running)

    # --- changes -------------------------------------------------------------------------------------

    def add(self, waiting: QueuedExecution, now: float) -> None:
        """Queue an execution, with the time and its job's coupling."""
        timing = self._timings.setdefault(waiting.job, JobTiming(waiting.center))
        timing.add_request(now)
        idle = self._holds.resume(waiting.job, now)
        if idle and self.waiting_order:
            self.shares.charge(waiting.center, idle, now)
        self.waiting_order.put(replace(waiting, arrived=now, coupling=coupling(timing.gap_s)))

    def take(self, now: float, at: float) -> QueuedExecution | None:
        """Start the next execution on an idle quantum runtime; None if none may start now."""
        chosen = self.choose(now, at)
        if chosen is not None:
            self._begin(chosen, now)
        return chosen

    def start(self, task: int, seq: int, now: float) -> None:
        """Start a waiting execution that runs already."""
        self._begin(self.waiting_order.of(task, seq), now)

    def finish(self, task: int, seq: int, seconds: float, now: float) -> None:
        """A running execution has ended after so many seconds."""
        running = self._running.pop((task, seq))
        took = max(seconds, MINIMUM_S)
        self._update_mean(took)
        self._charge(running.waiting.center, took - running.charged, running.since)
        self._execution_ended(running.waiting.job, now)

    def requeue(self, task: int, seq: int) -> None:
        """Queue a running execution again, at its old position: its quantum runtime was lost."""
        running = self._running.pop((task, seq))
        self._charge(running.waiting.center, -running.charged, running.since)
        timing = self._timings[running.waiting.job]
        timing.running -= 1
        timing.waiting += 1
        self.waiting_order.put(running.waiting)

    def withdraw(self, task: int, seq: int, now: float) -> None:
        """Remove an execution; if it runs, the time it has used so far counts."""
        running = self._running.get((task, seq))
        if running is not None:
            self.finish(task, seq, now - running.since, now)
            return
        waiting = self.waiting_order.of(task, seq)
        self.waiting_order.remove(waiting)
        self._timings[waiting.job].waiting -= 1

    def forget(self, job: int) -> None:
        """Forget a job that has ended, unless another start of it has executions."""
        timing = self._timings.get(job)
        if timing is not None and not timing.waiting and not timing.running:
            self._holds.end(job)
            del self._timings[job]

    def charge_lane_execution(self, job: int, center: str, seconds: float, now: float) -> None:
        """Charge an execution by lane."""
        took = max(seconds, MINIMUM_S)
        self._update_mean(took)
        self._charge(center, took, now)
        if job in self._timings:
            self._timings[job].ended_at = now

    def charge(self, center: str, seconds: float, when: float) -> None:
        """Charge a center for past use."""
        self._charge(center, seconds, when)

    # --- queries -------------------------------------------------------------------------------------

    def choose(self, now: float, at: float) -> QueuedExecution | None:
        """The execution that `take` would start."""
        self._end_overdue(now)
        window = in_force(self.reservations.values(), at)
        kept = 0
        for hold in self._holds.all():
            if not self._admits(window, hold.job):
                continue
            if self._goes_first(hold):
                return self.waiting_order.numbered(self.waiting_order.of_job(hold.job)[0][1])
            kept += hold.idle_since is not None
        if not self.waiting_order or (kept and self._places - self.running <= kept):
            return None
        if window is None:
            return self.waiting_order.first()
        keys = self.reserved_keys(window)
        return self.waiting_order.numbered(keys[0][1]) if keys else None

    def admits(self, job: int, center: str, at: float) -> bool:
        """Whether reservations let a job use the backend."""
        window = in_force(self.reservations.values(), at)
        return window is None or window.admits(center, job)

    def coupling(self, job: int) -> float:
        """How often a job couples, by its executions in this queue."""
        timing = self._timings.get(job)
        return coupling(None if timing is None else timing.gap_s)

    def reserved_keys(self, window: Reservation) -> SortedList[Rank]:
        """The waiting executions that a reservation is for."""
        waiting_order = self.waiting_order
        return (
            waiting_order.of_job(window.job_id) if window.job_id else waiting_order.of_center(window.center)
        )

    def reservations_of_job(self, job: int, at: float) -> list[Reservation]:
        """The active reservations for this job."""
        return [one for one in self.reservations.values() if one.job_id == job and one.begins <= at]

    def first_jobs(self, at: float) -> list[int]:
        """The jobs that go first because they have a session."""
        window = in_force(self.reservations.values(), at)
        return [hold.job for hold in self._holds.all() if self._admits(window, hold.job)]

    def sessions(self) -> list[tuple[SessionHold, str, float | None]]:
        """Every session, its job's center, and its latest end (None: not limited at present)."""
        found = []
        for hold in self._holds.all():
            timing = self._timings[hold.job]
            others_wait = len(self.waiting_order) > timing.waiting
            found.append((hold, timing.center, self._holds.until(hold, others_wait=others_wait)))
        return found

    def is_kept_free(self) -> bool:
        """Whether executions wait because the free places are kept for jobs with sessions."""
        kept = sum(hold.idle_since is not None for hold in self._holds.all())
        return 0 < self._places - self.running <= kept

    def next_event(self, now: float, at: float) -> float:
        """When an execution may start that may not now; `now` if such a time has passed since the last call."""
        passed = self._end_overdue(now) or any(
            self._last_check < one.ends <= at for one in self.reservations.values()
        )
        self._last_check = at
        if passed:
            return now
        ends = (now + one.ends - at for one in self.reservations.values() if one.ends > at)
        return min(self._holds.next_event(), min(ends, default=float("inf")))

    # --- running executions --------------------------------------------------------------------------

    def _begin(self, chosen: QueuedExecution, now: float) -> None:
        # before `remove`, which puts the center in its new place
        self.shares.charge(chosen.center, self.seconds, now)
        self.waiting_order.remove(chosen)
        timing = self._timings[chosen.job]
        timing.waiting -= 1
        timing.running += 1
        if chosen.hybrid:
            self._holds.begin(chosen.job, now)
        self._running[chosen.task, chosen.seq] = _Running(chosen, now, self.seconds)

    def _update_mean(self, took: float) -> None:
        self._mean_s = self._mean_s + _MEAN_WEIGHT * (took - self._mean_s) if self._mean_s else took

    def _charge(self, center: str, seconds: float, when: float) -> None:
        self.shares.charge(center, seconds, when)
        if self.policy.by_center:
            self.waiting_order.place(center)

    # --- sessions ------------------------------------------------------------------------------------

    def _admits(self, window: Reservation | None, job: int) -> bool:
        timing = self._timings.get(job)
        return window is None or (timing is not None and window.admits(timing.center, job))

    def _goes_first(self, hold: SessionHold) -> bool:
        # a session is one place: a second circuit at a time competes with the others
        timing = self._timings[hold.job]
        return timing.waiting > 0 and timing.running == 0

    def _execution_ended(self, job: int, now: float) -> None:
        timing = self._timings[job]
        timing.running -= 1
        timing.ended_at = now
        if not timing.running and not timing.waiting:
            self._holds.job_idle(job, timing.gap_s, now)

    def _end_overdue(self, now: float) -> bool:
        over = False
        for hold in self._holds.all():
            timing = self._timings[hold.job]
            others_wait = len(self.waiting_order) > timing.waiting
            idle = self._holds.end_if_overdue(hold, now, others_wait=others_wait)
            if idle is None:
                continue
            over = True
            if idle and others_wait:
                self._charge(timing.center, idle, now)
        return over
