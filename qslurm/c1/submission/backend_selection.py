"""Which backend takes a job whose user said `--backend any`: the first free one that fits, else the shortest line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from qslurm.c1.queries.lists import Backend
from qslurm.errors import InvalidInputError

UNSAID = "UNKNOWN"
"""The state of a partition that C2 does not say (v0.0.39 alone): it is not called closed for that, nor held."""

NAMED = 8
"""Backends that a refusal names."""


@dataclass(frozen=True)
class Need:
    """What a job needs of a backend; None is not known, and everything is enough for it."""

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
    """A backend that might take the job, its platform, and how commands call it."""

    platform: str
    name: str
    backend: Backend


class Rank(IntEnum):
    """How soon a backend can begin, the best first."""

    FREE = 0
    BUSY = 1
    PAUSED = 2
    HELD = 3


@dataclass(frozen=True)
class Choice:
    """The offer that was taken, and why, in words."""

    offer: Offer
    why: str


def choose(need: Need, offers: Sequence[Offer], now: float) -> Choice:
    """The first free backend that fits. If none is free: the shortest line, of those in service if there are any.

    Equal ones are taken in the order of the offers. InvalidInputError, with what is needed and what there is, if none
    fits. `now` is in Unix seconds.
    """
    fitting = [offer for offer in offers if not misfit(need, offer)]
    if not fitting:
        raise InvalidInputError(
            f"No backend fits this job, which needs {need}.", hint=f"{_what_there_is(need, offers)}"
        )
    best = min(fitting, key=lambda offer: (rank(offer.backend, now), *line(offer.backend)))
    found = rank(best.backend, now)
    if found is Rank.FREE:
        return Choice(best, f"{best.name} is free")
    jobs, _ = line(best.backend)
    ahead = f"{jobs} job{'s' if jobs != 1 else ''} there" if jobs else "no job there"
    if found is Rank.BUSY:
        return Choice(best, f"none is free; {best.name} has the shortest queue, {ahead}")
    reason = f" ({best.backend.reason})" if best.backend.reason else ""
    return Choice(best, f"none is in service; {best.name} is {_state(best.backend, found)}{reason}, {ahead}")


def is_free(need: Need, offer: Offer, now: float) -> bool:
    """Whether the job could begin there at once, so that nothing after it need be looked at."""
    return not misfit(need, offer) and rank(offer.backend, now) is Rank.FREE


def misfit(need: Need, offer: Offer) -> str:
    """Why a backend can't take the job at all, in words; nothing if it can."""
    backend = offer.backend
    if not backend.allowed:
        return "not allowed by this center"
    if backend.partition_state not in ("UP", "DOWN", UNSAID):
        return "closed"
    if need.qubits is not None and backend.qubits is not None and backend.qubits < need.qubits:
        return f"{backend.qubits} qubit{'s' if backend.qubits != 1 else ''}"
    if need.shots is not None and backend.max_shots is not None and backend.max_shots < need.shots:
        return f"at most {backend.max_shots} shots"
    return ""


def rank(backend: Backend, now: float) -> Rank:
    """How soon it can begin: now, after others, after its calibration or a window for others, or nobody knows."""
    if backend.state == "calibrating":
        return Rank.PAUSED  # its partition is held for so long
    if backend.partition_state not in ("UP", UNSAID) or backend.state not in ("idle", "executing"):
        return Rank.HELD
    if any(window["begins"] <= now < window["ends"] and not window["yours"] for window in backend.reserved):
        return Rank.PAUSED
    return Rank.BUSY if backend.state == "executing" or any(line(backend)) else Rank.FREE


def line(backend: Backend) -> tuple[int, int]:
    """What stands before a new job: jobs, and circuits of those that run."""
    return backend.in_line + backend.running, backend.queued + backend.executing


def _what_there_is(need: Need, offers: Sequence[Offer]) -> str:
    if not offers:
        return "There is no backend."
    named = [f"{offer.name} ({misfit(need, offer)})" for offer in offers[:NAMED]]
    more = f" and {len(offers) - NAMED} more" if len(offers) > NAMED else ""
    return f"There are {', '.join(named)}{more}." if len(offers) > 1 else f"There is {named[0]}."


def _state(backend: Backend, found: Rank) -> str:
    if backend.state in ("calibrating", "offline"):
        return backend.state
    return "held" if found is Rank.HELD else "reserved for others"
