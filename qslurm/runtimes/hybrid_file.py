"""Checks and runs a researcher's hybrid file, in this process."""

from __future__ import annotations

from typing import Any

from qslurm.runtimes.interface import Transport


def check_hybrid(text: str, file: str) -> None:
    """Refuse a file that can't be a hybrid algorithm (InvalidInputError with line and column); nothing is run."""
    raise NotImplementedError


def run_hybrid(source: str, file: str, transport: Transport, *, shots: int | None = None) -> dict[str, Any]:
    """Run the file and give its final result, a dict that JSON can carry.

    Whatever the user's code raises is a JobFailedError that shows the user's own lines; errors of the transport
    that the user's code lets through (a CircuitError, an unreachable dispatcher) keep their class.
    `shots` is for files with `initialize`, which do not say how many shots they want (None: the backend's default).
    """
    raise NotImplementedError
