"""Every error qslurm raises on purpose, each with the exit code its command ends with.

The message is one sentence that says what is wrong; the hint says what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class QslurmError(Exception):
    """The root of the tree: something went wrong that no narrower class names (exit code 1)."""

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "unexpected"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class NoRoomError(QslurmError):
    """The disk that something has to be kept on is full."""

    kind = "no_room"


class InvalidInputError(QslurmError):
    """What the user gave can't be used: a file, an option, a payload (exit code 2)."""

    exit_code = 2
    kind = "invalid_input"


class CircuitError(InvalidInputError):
    """A circuit is not valid cQASM, or asks for what no backend can do."""

    kind = "invalid_circuit"


class ConfigError(InvalidInputError):
    """A configuration file is missing, unreadable, or says something it can't."""

    kind = "invalid_config"


class RefusedError(QslurmError):
    """C2 answered, and said no to the job (exit code 3). `slurm_error` is Slurm's number for it, if it gave one."""

    exit_code = 3
    kind = "refused"
    slurm_error: int = 0


class UnknownJobError(RefusedError):
    """C2 knows no such job, or none that this center may see."""

    kind = "unknown_job"


class DuplicateError(RefusedError):
    """C2 has accepted this very submission before: its key is known there."""

    kind = "duplicate"


class NotReadyError(RefusedError):
    """The job is known, but what was asked of it does not exist yet."""

    kind = "not_ready"


class TokenError(QslurmError):
    """A token is missing, malformed, expired, or was refused (exit code 4)."""

    exit_code = 4
    kind = "token"


class PermissionDeniedError(QslurmError):
    """The user, not the token, lacks the right to do this (exit code 4)."""

    exit_code = 4
    kind = "permission"


class TooOftenError(QslurmError):
    """The center asks for more renewals of its token than anybody needs."""

    kind = "too_often"


class UnreachableError(QslurmError):
    """C2, or one of its services, did not answer (exit code 5)."""

    exit_code = 5
    kind = "unreachable"


class AccountingAwayError(UnreachableError):
    """C2's slurmdbd, or its database, does not answer; nobody else knows of jobs that slurmctld has forgotten."""

    kind = "accounting_away"


class UncertainError(UnreachableError):
    """A submission was sent and no answer came: the job may or may not exist on C2."""

    kind = "uncertain"


class KeptError(UncertainError):
    """C2 is away, and the center's agent has the submission on its disk: C2 will have it, once."""

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
    """The job has used the QPU-seconds that it may use."""

    kind = "used_up"
