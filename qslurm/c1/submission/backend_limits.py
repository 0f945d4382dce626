"""The backends' limits of qubits and shots, checked before a job is sent.

C2 checks them only when the job starts, which may be a day later. If the limits cannot be read, the job is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from qslurm.errors import InvalidInputError, QslurmError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection

KEPT_S = 60.0
"""Seconds to cache the limits, or their absence."""

LimitsLookup = Callable[[str], Mapping[str, Any]]
"""A backend's `qubits` and `max_shots` by its name; empty if unknown."""


def no_limits(backend: str) -> Mapping[str, Any]:
    """No limits."""
    del backend
    return {}


class BackendLimits:
    """The backends' limits, read on first use. `read` returns the job manager's documents."""

    def __init__(self, read: Callable[[], list[dict[str, Any]]]) -> None:
        self._read = read
        self._known: tuple[float, dict[str, Mapping[str, Any]]] = (float("-inf"), {})

    def __call__(self, backend: str) -> Mapping[str, Any]:
        """See LimitsLookup."""
        read_at, known = self._known
        if time.monotonic() - read_at > KEPT_S:
            try:
                known = {str(one.get("name")): one for one in self._read()}
            except QslurmError:  # C2 checks them, too
                known = {}
            self._known = time.monotonic(), known
        return known.get(backend, {})


def limits_of(center: CenterConnection) -> LimitsLookup:
    """The limits of a connection's backends."""
    return BackendLimits(center.job_manager.limits) if center.has_job_manager else no_limits


def check_limits(
    limits: LimitsLookup, backend: str, file: str, *, qubits: int | None, shots: int | None
) -> None:
    """InvalidInputError if a job needs more qubits or shots (None: unknown) than its backend has."""
    if qubits is None and shots is None:
        return
    known = limits(backend)
    for needed, most, unit in (
        (qubits, known.get("qubits"), "qubits"),
        (shots, known.get("max_shots"), "shots"),
    ):
        if needed is not None and isinstance(most, int) and needed > most:
            raise InvalidInputError(
                f"{file or 'The job'} asks for {needed} {unit}, and backend {backend} takes at most {most}.",
                hint="See `qslurm info` for the limits.",
            )
