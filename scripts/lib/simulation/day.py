"""A synthetic day: the jobs of 50 centers, and the backend's calibrations, drawn from one seed.

Half of the jobs are single circuits, half are hybrid: bursts of circuits with a classical step between two. A few
centers are large, most are small; the largest sends two campaigns, many jobs within a minute. Times are seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random

CENTERS = 50
DAY_S = 86_400.0
LOAD = 0.85
"""Asked of the backend, of what it can give besides calibrations."""

CAMPAIGNS_S = (9 * 3600.0, 14 * 3600.0)


@dataclass(frozen=True)
class Job:
    """`seconds` are the durations of its circuits, in order; `gaps` are the pauses between them."""

    number: int
    center: str
    arrives: float
    seconds: tuple[float, ...]
    gaps: tuple[float, ...]


def make_day(executions: int, seed: int = 1) -> list[Job]:
    """The jobs of a day in the order of their arrival; their circuits fill the backend to LOAD."""
    random = Random(seed)  # noqa: S311 - a day to repeat, no secret
    sizes = [1.0 / (rank + 1) for rank in range(CENTERS)]
    jobs: list[Job] = []
    planned = 0
    while planned < executions:
        job = _job(random, len(jobs) + 1, random.choices(range(CENTERS), sizes)[0])
        jobs.append(job)
        planned += len(job.seconds)
    given = DAY_S - sum(end - begin for begin, end in calibrations())
    factor = LOAD * given / sum(sum(job.seconds) for job in jobs)
    squeezed = (replace(job, seconds=tuple(s * factor for s in job.seconds)) for job in jobs)
    return sorted(squeezed, key=lambda job: job.arrives)


def calibrations(seed: int = 2) -> list[tuple[float, float]]:
    """Calibrations of the backend: five minutes every two hours, and twenty unplanned ones of about a minute."""
    random = Random(seed)  # noqa: S311
    planned = [
        (at, at + 300.0) for at in itertools.takewhile(lambda at: at < DAY_S, itertools.count(7200.0, 7200.0))
    ]
    begins = [random.uniform(0, DAY_S) for _ in range(20)]
    return _merged(planned + [(begin, begin + random.uniform(30, 120)) for begin in begins])


def _job(random: Random, number: int, center: int) -> Job:
    circuits = 1 if random.random() < 0.5 else min(400, 5 + int(random.expovariate(1 / 60)))
    mean = random.lognormvariate(0.0, 0.6)
    seconds = tuple(mean * random.uniform(0.9, 1.1) for _ in range(circuits))
    think = random.lognormvariate(-1.6, 1.4)  # mostly a fraction of a second, sometimes many
    gaps = tuple(random.expovariate(1 / think) for _ in range(circuits - 1))
    arrives = random.uniform(0, DAY_S)
    if center == 0 and random.random() < 0.5:
        arrives = random.choice(CAMPAIGNS_S) + random.uniform(0, 60)
    return Job(number, f"center{center:02}", arrives, seconds, gaps)


def _merged(windows: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for begin, end in sorted(windows):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged
