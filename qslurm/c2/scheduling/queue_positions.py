"""What those are told who wait: the place of an execution in its queue, and what it waits for.

The place is the one under the policy in force, if nothing else comes and every execution takes as long as the
mean: from 1, the next to go.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import islice

from qslurm.c2.scheduling.backend_queue import BackendQueue
from qslurm.c2.scheduling.policy import QueuedExecution, Rank
from qslurm.c2.scheduling.reservations import in_force, moment


def position(queue: BackendQueue, waiting: QueuedExecution, now: float, at: float) -> int:
    """The place of an execution that waits; times as in queue.py."""
    key = queue.line.key(waiting)
    window = in_force(queue.reservations.values(), at)
    first_jobs = queue.first_jobs(at)
    if waiting.job in first_jobs:
        return 1 + queue.line.of_job(waiting.job).bisect_left(key)
    if window is not None and window.admits(waiting.center, waiting.job):
        keys = queue.reserved_keys(window)
        later = sum(key < other for job in first_jobs for other in queue.line.of_job(job))
        return 1 + keys.bisect_left(key) + later
    ahead = _ahead(queue, waiting, now)
    place = 1 + sum(ahead.values())
    if window is None:
        return place + sum(_pushed_in_by_job(queue, job, ahead) for job in first_jobs)
    if window.job_id:
        return place + _pushed_in_by_job(queue, window.job_id, ahead)
    keys = queue.line.of_center(window.center)
    return place + len(keys) - ahead.get(window.center, keys.bisect_left(key))


def reason(
    queue: BackendQueue, backend: str, waiting: QueuedExecution, now: float, at: float
) -> tuple[str, int]:
    """Why an execution waits, in words, and its position."""
    place = position(queue, waiting, now, at)
    words = f"{place} of {len(queue)} in the queue of {backend}{queue.policy.words}"
    window = in_force(queue.reservations.values(), at)
    if window is not None and not window.admits(waiting.center, waiting.job):
        # Whose job it is concerns nobody else; that a center has the backend, everybody.
        holder = "another job" if window.job_id else window.holder
        return f"{backend} is reserved for {holder} until {moment(window.ends)}; {words}", place
    if waiting.job not in queue.first_jobs(at) and queue.is_kept_free():
        return (
            f"{words}; {backend} is kept free briefly for a hybrid job between two circuits",
            place,
        )
    return words, place


def first(queue: BackendQueue, most: int, now: float, at: float) -> list[QueuedExecution]:
    """The first of what waits, at most so many, whatever the length of the queue; nearly in order of position."""
    window = in_force(queue.reservations.values(), at)
    privileged = [queue.line.of_job(job) for job in queue.first_jobs(at)]
    if window is not None:
        privileged.append(queue.reserved_keys(window))
    numbers: dict[int, None] = {}
    for keys in privileged:
        numbers.update((key[1], None) for key in islice(keys, most))
    for number in islice(_by_policy(queue, now), most):
        numbers.setdefault(number)
    return [queue.line.numbered(number) for number in numbers]


def _by_policy(queue: BackendQueue, now: float) -> Iterator[int]:
    """The numbers of what waits, as `_ahead` has them: each center's turn comes with what it will have used."""
    shares, seconds = queue.shares, queue.seconds if queue.policy.by_center else 0.0
    turns: list[tuple[float, Rank, str, Iterator[Rank]]] = []

    def next_turn(used: float, group: str, keys: Iterator[Rank]) -> None:
        key = next(keys, None)
        if key is not None:
            heappush(turns, (used, key, group, keys))

    for group, keys in queue.line.groups().items():
        used = shares.used(group, now) / shares.weight(group) if queue.policy.by_center else 0.0
        next_turn(used, group, iter(keys))
    while turns:
        used, key, group, rest = heappop(turns)
        yield key[1]
        next_turn(used + seconds / shares.weight(group), group, rest)


def _ahead(queue: BackendQueue, waiting: QueuedExecution, now: float) -> dict[str, int]:
    """How many of each group the policy puts before it."""
    groups, own, key = queue.line.groups(), queue.line.group(waiting), queue.line.key(waiting)
    rank = groups[own].bisect_left(key)
    ahead = {own: rank}
    if not queue.policy.by_center:
        return ahead
    shares, seconds = queue.shares, queue.seconds
    mine = (shares.used(own, now) + rank * seconds) / shares.weight(own)
    for center, keys in groups.items():
        if center == own:
            continue
        # Its turns come until it has used as much for its weight as the own center will have by then.
        turns = (mine * shares.weight(center) - shares.used(center, now)) / seconds
        whole = round(turns)
        if 0 <= whole < len(keys) and math.isclose(turns, whole, abs_tol=1e-6):
            ahead[center] = whole + (keys[whole] < key)  # as much: who has waited longer goes first
        else:
            ahead[center] = min(max(math.ceil(turns), 0), len(keys))
    return ahead


def _pushed_in_by_job(queue: BackendQueue, job: int, ahead: dict[str, int]) -> int:
    """How many of a job that goes first would otherwise go after."""
    pushed = 0
    for key in queue.line.of_job(job):
        group = queue.line.group(queue.line.numbered(key[1]))
        pushed += queue.line.groups()[group].bisect_left(key) >= ahead[group]
    return pushed
