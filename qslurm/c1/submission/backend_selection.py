"""Chooses the backend for `--backend any`: the first free one that fits, else the one with the shortest queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from qslurm.c1.queries.lists import Backend
from qslurm.errors import InvalidInputError

UNKNOWN = "UNKNOWN"
"""The state of a partition that slurmrestd does not report (v0.0.39); taken as UP."""

MOST_NAMED = 8
"""Maximum backends named in an error."""


@dataclass(frozen=True)
class Need:
    """What a job needs; None if unknown, which any backend satisfies."""

    qubits: int | None = None
    shots: int | None = None

    def __str__(self) -> str:
        parts = [
            f"{number} {unit if number != 1 else unit.removesuffix('s')}"
            for number, unit in ((self.qubits, "qubits"), (self.shots, "shots"))
            if number is not None
        ]
        return " and ".join(parts) or "nothing in particular"


@dataclass(frozen=True)
class Offer:
    """A candidate backend, its platform, and its name in messages."""

    platform: str
    name: str
    backend: Backend


class Rank(IntEnum):
    """How soon a backend can start a job, the soonest first."""

    FREE = 0
    BUSY = 1
    PAUSED = 2
    HELD = 3


@dataclass(frozen=True)
class Choice:
    """The chosen offer, and the reason as text."""

    offer: Offer
    why: str


def choose(need: Need, offers: Sequence[Offer], now: float) -> Choice:
    """The first free backend that fits; if none is free, the one with the shortest queue, preferably in service.

    Ties are resolved by the order of the offers. InvalidInputError if none fits, with what is needed and what there is.
    `now` is in Unix seconds.
    """
    fitting = [offer for offer in offers if not misfit(need, offer)]
    if not fitting:
        raise InvalidInputError(
            f"No backend fits this job, which needs {need}.", hint=f"{_available(need, offers)}"
        )
    best = min(fitting, key=lambda offer: (rank(offer.backend, now), *queue_length(offer.backend)))
    found = rank(best.backend, now)
    if found is Rank.FREE:
        return Choice(best, f"{best.name} is free")
    jobs, _ = queue_length(best.backend)
    ahead = f"{jobs} job{'s' if jobs != 1 else ''} there" if jobs else "no job there"
    if found is Rank.BUSY:
        return Choice(best, f"none is free; {best.name} has the shortest queue, {ahead}")
    reason = f" ({best.backend.reason})" if best.backend.reason else ""
    return Choice(best, f"none is in service; {best.name} is {_state(best.backend, found)}{reason}, {ahead}")


def is_free(need: Need, offer: Offer, now: float) -> bool:
    """Whether the job could start there now."""
    return not misfit(need, offer) and rank(offer.backend, now) is Rank.FREE


def misfit(need: Need, offer: Offer) -> str:
    """Why a backend cannot run the job, as text; "" if it can."""
    backend = offer.backend
    if not backend.allowed:
        return "not allowed by this center"
    if backend.partition_state not in ("UP", "DOWN", UNKNOWN):
        return "closed"
    if need.qubits is not None and backend.qubits is not None and backend.qubits < need.qubits:
        return f"{backend.qubits} qubit{'s' if backend.qubits != 1 else ''}"
    if need.shots is not None and backend.max_shots is not None and backend.max_shots < need.shots:
        return f"at most {backend.max_shots} shots"
    return ""


def rank(backend: Backend, now: float) -> Rank:
    """How soon a backend can start a job: now, after others, after a calibration or a reservation, or unknown."""
    if backend.state == "calibrating":
        return Rank.PAUSED  # its partition is held meanwhile
    if backend.partition_state not in ("UP", UNKNOWN) or backend.state not in ("idle", "executing"):
        return Rank.HELD
    if any(window["begins"] <= now < window["ends"] and not window["yours"] for window in backend.reserved):
        return Rank.PAUSED
    return Rank.BUSY if backend.state == "executing" or any(queue_length(backend)) else Rank.FREE


def queue_length(backend: Backend) -> tuple[int, int]:
    """The jobs ahead of a new one, and the circuits of the running ones."""
    return backend.in_line + backend.running, backend.queued + backend.executing


def _available(need: Need, offers: Sequence[Offer]) -> str:
    if not offers:
        return "There is no backend."
    named = [f"{offer.name} ({misfit(need, offer)})" for offer in offers[:MOST_NAMED]]
    more = f" and {len(offers) - MOST_NAMED} more" if len(offers) > MOST_NAMED else ""
    return f"There are {', '.join(named)}{more}." if len(offers) > 1 else f"There is {named[0]}."


def _state(backend: Backend, found: Rank) -> str:
    if backend.state in ("calibrating", "offline"):
        return backend.state
    return "held" if found is Rank.HELD else "reserved for others"
