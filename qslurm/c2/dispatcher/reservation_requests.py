"""Operators' requests to reserve backends and to release reservations."""

from __future__ import annotations

from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.scheduling.reservations import Reservation, find_error, moment
from qslurm.protocol.messages import Done, Message, Refused, Release, Reserve, Reserved
from qslurm.system.event_log import EventLog

KEPT_S = 86_400.0
"""How long a reservation is kept after its end, so that none is lost to a wrong clock."""

log = EventLog(__name__)


def handle(registry: TaskRegistry, message: Reserve | Release) -> Message:
    """Carry out an operator's request; reservations that ended a day ago are deleted first."""
    for one in _all(registry):
        if one.ends + KEPT_S <= registry.clock():
            registry.release(one)
    if isinstance(message, Reserve):
        return _reserve(registry, message)
    found = next((one for one in listed(registry) if one.id == message.reservation), None)
    if found is None:
        return Refused(kind="invalid_input", reason=f"Unknown reservation {message.reservation}.")
    log.info("reservation released", **_names(found))
    registry.release(found)
    return Done()


def listed(registry: TaskRegistry) -> list[Reservation]:
    """The active and future reservations, by their begin."""
    now = registry.clock()
    return sorted((one for one in _all(registry) if one.ends > now), key=lambda one: (one.begins, one.id))


def _reserve(registry: TaskRegistry, message: Reserve) -> Message:
    queue = registry.queues.get(message.backend)
    if queue is None:
        return Refused(
            kind="invalid_input",
            reason=f"Unknown backend {message.backend!r}. Available: {', '.join(registry.queues)}.",
        )
    now = registry.clock()
    new = Reservation(
        id=1 + max([registry.store.last_reservation(), *(one.id for one in _all(registry))]),
        backend=message.backend,
        begins=max(message.begins, now),
        ends=message.ends,
        center=message.center,
        job_id=message.job_id,
        reason=message.reason,
    )
    error = find_error(new, list(queue.reservations.values()), now)
    if error:
        return Refused(kind="invalid_input", reason=error)
    registry.reserve(new)
    log.info("reserved", **_names(new), begins=moment(new.begins), ends=moment(new.ends))
    known = not new.center or new.center in registry.backends[new.backend].weights
    if known or registry.store.knows_center(new.center):
        return Reserved(reservation=new.id)
    return Reserved(
        reservation=new.id, note=f"Center {new.center!r} has not run a job here yet. Check the name."
    )


def _names(one: Reservation) -> dict[str, str | int | None]:
    return {
        "reservation": one.id, "job": one.job_id or None, "center": one.center or None, "backend": one.backend,
    }  # fmt: skip


def _all(registry: TaskRegistry) -> list[Reservation]:
    return [one for queue in registry.queues.values() for one in queue.reservations.values()]
