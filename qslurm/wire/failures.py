"""Errors in messages: `kind` names the class of qslurm.errors."""

from __future__ import annotations

import msgspec

from qslurm import errors
from qslurm.errors import QslurmError, RefusedError


class Failed(msgspec.Struct, tag="error"):
    """The reply to a request that failed."""

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
    """The message for an error."""
    number = error.slurm_error if isinstance(error, RefusedError) else 0
    return Failed(error.kind, error.message, error.hint, number)


def error_of(failed: Failed) -> QslurmError:
    """The error of a message; a plain QslurmError if its kind is unknown."""
    error = _ERRORS.get(failed.kind, QslurmError)(failed.message, hint=failed.hint)
    if isinstance(error, RefusedError):
        error.slurm_error = failed.slurm_error
    return error
