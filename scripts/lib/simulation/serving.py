"""Discrete-event simulation of a day, with the dispatcher's own queue. Times are seconds."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Literal

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.scheduling.backend_queue import BackendQueue
from qslurm.c2.scheduling.policy import QueuedExecution
from simulation.day import Job, calibrations

INFINITE = float("inf")
QUARTER_S = 900.0
Event = tuple[float, int, Literal["ask", "done", "look"], int, int]
"""When, its order among those of the same time, what, and of which job which circuit."""


@dataclass
class Served:
    """Results of a day. A job's speed is its duration alone divided by its duration here."""

    busy_s: float = 0.0
    up_s: float = 0.0
    waits: list[float] = field(default_factory=list)  # of executions
    speeds: dict[str, list[float]] = field(default_factory=dict)  # of jobs, by center
    hybrid_speeds: list[float] = field(default_factory=list)
    presence: list[tuple[str, float, float]] = field(
        default_factory=list
    )  # from when to when a center wanted it
    services: list[tuple[str, float, float]] = field(
        default_factory=list
    )  # to which center, when, for how long


def serve(jobs: Sequence[Job], config: BackendConfig) -> Served:
    """Serve all jobs of a day to the end."""
    return _Day(jobs, config).run()


def jain(values: Sequence[float]) -> float:
    """Jain's fairness index: 1 if all values are equal, 1/n if one has everything."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


def fairness(served: Served) -> float:
    """Jain's index of the time that centers with permanent demand got, over quarters of an hour."""
    wanted: dict[int, Counter[str]] = defaultdict(Counter)
    for center, begin, end in served.presence:
        for quarter in range(int(begin // QUARTER_S), int(end // QUARTER_S) + 1):
            inside = min(end, (quarter + 1) * QUARTER_S) - max(begin, quarter * QUARTER_S)
            wanted[quarter][center] += int(inside)
    got: dict[int, Counter[str]] = defaultdict(Counter)
    for center, when, seconds in served.services:
        got[int(when // QUARTER_S)][center] += int(seconds * 1e6)
    indices = []
    for quarter, centers in wanted.items():
        always = [center for center, seconds in centers.items() if seconds > 0.8 * QUARTER_S]
        if len(always) > 1:
            indices.append(jain([got[quarter][center] for center in always]))
    return mean(indices)


class _Day:
    def __init__(self, jobs: Sequence[Job], config: BackendConfig) -> None:
        self.queue = BackendQueue(config)
        self.jobs = {job.number: job for job in jobs}
        self.served = Served()
        self.order = itertools.count()
        self.numbers = itertools.count(1)
        self.asked: dict[int, float] = {}
        self.under_way: Counter[str] = Counter()
        self.present_since: dict[str, float] = {}
        self.is_free = True
        self.calibrations = calibrations()
        self.events: list[Event] = [(job.arrives, next(self.order), "ask", job.number, 0) for job in jobs]
        self.events += [(end, next(self.order), "look", 0, 0) for _, end in self.calibrations]
        heapq.heapify(self.events)

    def run(self) -> Served:
        last = 0.0
        while self.events:
            now, _, what, number, seq = heapq.heappop(self.events)
            if what == "ask":
                self.ask(now, number, seq)
            elif what == "done":
                self.done(now, number, seq)
                last = now
            self.start(now)
        self.served.up_s = last - sum(min(end, last) - min(begin, last) for begin, end in calibrations())
        return self.served

    def ask(self, now: float, number: int, seq: int) -> None:
        job = self.jobs[number]
        hybrid = len(job.seconds) > 1
        self.asked[number] = now
        self.under_way[job.center] += 1
        if self.under_way[job.center] == 1:
            self.present_since[job.center] = now
        self.queue.add(QueuedExecution(number, seq, next(self.numbers), job.center, number, hybrid), now)

    def start(self, now: float) -> None:
        while self.calibrations and self.calibrations[0][1] <= now:
            self.calibrations.pop(0)
        is_calibrating = bool(self.calibrations) and self.calibrations[0][0] <= now
        if not self.is_free or is_calibrating or not len(self.queue):
            return
        chosen = self.queue.take(now, now)
        if chosen is None:
            again = self.queue.next_event(now, now)
            if again < INFINITE:
                heapq.heappush(self.events, (max(again, now) + 1e-6, next(self.order), "look", 0, 0))
            return
        self.is_free = False
        asked = self.asked.pop(chosen.task)
        self.served.waits.append(now - asked)
        seconds = self.jobs[chosen.task].seconds[chosen.seq]
        heapq.heappush(self.events, (now + seconds, next(self.order), "done", chosen.task, chosen.seq))

    def done(self, now: float, number: int, seq: int) -> None:
        job, served = self.jobs[number], self.served
        self.is_free = True
        self.queue.finish(number, seq, job.seconds[seq], now)
        served.busy_s += job.seconds[seq]
        served.services.append((job.center, now, job.seconds[seq]))
        self.under_way[job.center] -= 1
        if not self.under_way[job.center]:
            served.presence.append((job.center, self.present_since[job.center], now))
        if seq + 1 < len(job.seconds):
            heapq.heappush(self.events, (now + job.gaps[seq], next(self.order), "ask", number, seq + 1))
            return
        self.queue.forget(number)
        speed = (sum(job.seconds) + sum(job.gaps)) / (now - job.arrives)
        served.speeds.setdefault(job.center, []).append(speed)
        if seq:
            served.hybrid_speeds.append(speed)
