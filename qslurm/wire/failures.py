"""An error as it travels: its kind, which names a class of qslurm.errors, and what it says."""

from __future__ import annotations

import msgspec

from qslurm import errors
from qslurm.errors import QslurmError, RefusedError


class Failed(msgspec.Struct, tag="error"):
    """A request ended in an error."""

    kind: str
    message: str
    hint: str = ""
    slurm_error: int = 0


_ERRORS: dict[str, type[QslurmError]] = {
    error.kind: error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, QslurmError)
}


def failure(error: QslurmError) -> Failed:
    """An error as it travels."""
    number = error.slurm_error if isinstance(error, RefusedError) else 0
    return Failed(error.kind, error.message, error.hint, number)


def error_of(failed: Failed) -> QslurmError:
    """The error that was sent; plain QslurmError for a kind that is unknown here."""
    error = _ERRORS.get(failed.kind, QslurmError)(failed.message, hint=failed.hint)
    if isinstance(error, RefusedError):
        error.slurm_error = failed.slurm_error
    return error
