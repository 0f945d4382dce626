"""What C2's backends take at most, as far as that can be known here at once: a job beyond it is refused unsent.

On C2 it would be refused when it starts, which may be tomorrow. Where nobody can be asked (C2 is away, and the agent
has not heard of its backends yet) the job goes, and C2 decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from qslurm.errors import InvalidInputError, QslurmError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection

KEPT_S = 60.0
"""Seconds for which an answer counts, also that there is none."""

LimitsLookup = Callable[[str], Mapping[str, Any]]
"""What is known of a backend, by its name: `qubits` and `max_shots`; nothing for one of which nobody knows."""


def nothing_known(backend: str) -> Mapping[str, Any]:
    """The limits where nobody is asked."""
    del backend
    return {}


class BackendLimits:
    """The limits as a connection gives them; asks when it is first needed. `ask` gives the backends' documents."""

    def __init__(self, ask: Callable[[], list[dict[str, Any]]]) -> None:
        self._ask = ask
        self._known: tuple[float, dict[str, Mapping[str, Any]]] = (float("-inf"), {})

    def __call__(self, backend: str) -> Mapping[str, Any]:
        """See LimitsLookup."""
        asked, known = self._known
        if time.monotonic() - asked > KEPT_S:
            try:
                known = {str(one.get("name")): one for one in self._ask()}
            except QslurmError:  # C2 has its own say
                known = {}
            self._known = time.monotonic(), known
        return known.get(backend, {})


def limits_of(center: CenterConnection) -> LimitsLookup:
    """The limits of the backends that a connection leads to."""
    return BackendLimits(center.job_manager.limits) if center.has_job_manager else nothing_known


def refuse_beyond(
    limits: LimitsLookup, backend: str, file: str, *, qubits: int | None, shots: int | None
) -> None:
    """InvalidInputError for a job that needs more qubits or shots (None: not known) than its backend takes."""
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
