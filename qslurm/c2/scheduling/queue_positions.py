"""The position of a waiting execution in its queue, and why it waits.

The position (from 1, the next one) assumes that nothing else is queued, and that every execution takes the mean time.
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
    """The position of a waiting execution; times as in backend_queue.py."""
    key = queue.waiting_order.key(waiting)
    window = in_force(queue.reservations.values(), at)
    first_jobs = queue.first_jobs(at)
    if waiting.job in first_jobs:
        return 1 + queue.waiting_order.of_job(waiting.job).bisect_left(key)
    if window is not None and window.admits(waiting.center, waiting.job):
        keys = queue.reserved_keys(window)
        later = sum(key < other for job in first_jobs for other in queue.waiting_order.of_job(job))
        return 1 + keys.bisect_left(key) + later
    ahead = _ahead(queue, waiting, now)
    place = 1 + sum(ahead.values())
    if window is None:
        return place + sum(_overtaking(queue, job, ahead) for job in first_jobs)
    if window.job_id:
        return place + _overtaking(queue, window.job_id, ahead)
    keys = queue.waiting_order.of_center(window.center)
    return place + len(keys) - ahead.get(window.center, keys.bisect_left(key))


def reason(
    queue: BackendQueue, backend: str, waiting: QueuedExecution, now: float, at: float
) -> tuple[str, int]:
    """Why an execution waits, as text, and its position."""
    place = position(queue, waiting, now, at)
    words = f"{place} of {len(queue)} in the queue of {backend}{queue.policy.words}"
    window = in_force(queue.reservations.values(), at)
    if window is not None and not window.admits(waiting.center, waiting.job):
        # The job of a reservation is hidden from others; the center is not.
        holder = "another job" if window.job_id else window.holder
        return f"{backend} is reserved for {holder} until {moment(window.ends)}; {words}", place
    if waiting.job not in queue.first_jobs(at) and queue.is_kept_free():
        return (
            f"{words}; {backend} is kept free briefly for a hybrid job between two circuits",
            place,
        )
    return words, place


def first(queue: BackendQueue, most: int, now: float, at: float) -> list[QueuedExecution]:
    """The first waiting executions, at most `most`, roughly by position; fast for long queues as well."""
    window = in_force(queue.reservations.values(), at)
    preferred = [queue.waiting_order.of_job(job) for job in queue.first_jobs(at)]
    if window is not None:
        preferred.append(queue.reserved_keys(window))
    numbers: dict[int, None] = {}
    for keys in preferred:
        numbers.update((key[1], None) for key in islice(keys, most))
    for number in islice(_by_policy(queue, now), most):
        numbers.setdefault(number)
    return [queue.waiting_order.numbered(number) for number in numbers]


def _by_policy(queue: BackendQueue, now: float) -> Iterator[int]:
    """The numbers of waiting executions by policy, as `_ahead` counts them."""
    shares, seconds = queue.shares, queue.seconds if queue.policy.by_center else 0.0
    turns: list[tuple[float, Rank, str, Iterator[Rank]]] = []

    def next_turn(used: float, group: str, keys: Iterator[Rank]) -> None:
        key = next(keys, None)
        if key is not None:
            heappush(turns, (used, key, group, keys))

    for group, keys in queue.waiting_order.groups().items():
        used = shares.used(group, now) / shares.weight(group) if queue.policy.by_center else 0.0
        next_turn(used, group, iter(keys))
    while turns:
        used, key, group, rest = heappop(turns)
        yield key[1]
        next_turn(used + seconds / shares.weight(group), group, rest)


def _ahead(queue: BackendQueue, waiting: QueuedExecution, now: float) -> dict[str, int]:
    """How many executions of each group the policy ranks before one."""
    groups, own, key = (
        queue.waiting_order.groups(),
        queue.waiting_order.group(waiting),
        queue.waiting_order.key(waiting),
    )
    rank = groups[own].bisect_left(key)
    ahead = {own: rank}
    if not queue.policy.by_center:
        return ahead
    shares, seconds = queue.shares, queue.seconds
    mine = (shares.used(own, now) + rank * seconds) / shares.weight(own)
    for center, keys in groups.items():
        if center == own:
            continue
        # It goes first until its use by weight is what the own center's will be by then.
        turns = (mine * shares.weight(center) - shares.used(center, now)) / seconds
        whole = round(turns)
        if 0 <= whole < len(keys) and math.isclose(turns, whole, abs_tol=1e-6):
            ahead[center] = whole + (keys[whole] < key)  # equal use: first come, first served
        else:
            ahead[center] = min(max(math.ceil(turns), 0), len(keys))
    return ahead


def _overtaking(queue: BackendQueue, job: int, ahead: dict[str, int]) -> int:
    """How many executions of a preferred job overtake those that the policy ranks before them."""
    overtaking = 0
    for key in queue.waiting_order.of_job(job):
        group = queue.waiting_order.group(queue.waiting_order.numbered(key[1]))
        overtaking += queue.waiting_order.groups()[group].bisect_left(key) >= ahead[group]
    return overtaking
