"""All errors that qslurm raises deliberately, each with a command's exit code.

The message is one sentence that says what is wrong; the hint says what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class QslurmError(Exception):
    """The base class; exit code 1 for errors without a narrower class."""

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "unexpected"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class NoRoomError(QslurmError):
    """A disk is full."""

    kind = "no_room"


class InvalidInputError(QslurmError):
    """Invalid user input: a file, an option, a payload (exit code 2)."""

    exit_code = 2
    kind = "invalid_input"


class CircuitError(InvalidInputError):
    """A circuit is invalid, or exceeds what any backend supports."""

    kind = "invalid_circuit"


class ConfigError(InvalidInputError):
    """A configuration file is missing, unreadable or invalid."""

    kind = "invalid_config"


class RefusedError(QslurmError):
    """C2 refused the request (exit code 3). `slurm_error` is Slurm's error number, if any."""

    exit_code = 3
    kind = "refused"
    slurm_error: int = 0


class UnknownJobError(RefusedError):
    """The job does not exist on C2, or this center may not see it."""

    kind = "unknown_job"


class DuplicateError(RefusedError):
    """C2 already has a submission with this key."""

    kind = "duplicate"


class NotReadyError(RefusedError):
    """The job exists, but the requested data does not yet."""

    kind = "not_ready"


class TokenError(QslurmError):
    """A token is missing, malformed, expired, or refused by C2 (exit code 4)."""

    exit_code = 4
    kind = "token"


class PermissionDeniedError(QslurmError):
    """The user, rather than the token, lacks permission (exit code 4)."""

    exit_code = 4
    kind = "permission"


class TooOftenError(QslurmError):
    """The center renews its token too often."""

    kind = "too_often"


class UnreachableError(QslurmError):
    """C2 or one of its services did not answer (exit code 5)."""

    exit_code = 5
    kind = "unreachable"


class AccountingAwayError(UnreachableError):
    """C2's slurmdbd or its database is down; no other service knows purged jobs."""

    kind = "accounting_away"


class UncertainError(UnreachableError):
    """A submission was sent without an answer: the job may or may not exist on C2."""

    kind = "uncertain"


class KeptError(UncertainError):
    """C2 is unreachable, and the center's agent keeps the submission and will send it."""

    kind = "kept"


class JobFailedError(QslurmError):
    """The job ran and failed (exit code 6)."""

    exit_code = 6
    kind = "job_failed"


class JobCancelledError(QslurmError):
    """The job was cancelled (exit code 7)."""

    exit_code = 7
    kind = "job_cancelled"


class TimedOutError(QslurmError):
    """The job, or the wait for it, ran into its time limit (exit code 8)."""

    exit_code = 8
    kind = "timed_out"


class UsedUpError(TimedOutError):
    """The job has used its QPU-seconds."""

    kind = "used_up"
