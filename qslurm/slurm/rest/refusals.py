"""Maps responses to errors with their hints."""

from __future__ import annotations

from qslurm.errors import (
    AccountingAwayError,
    DuplicateError,
    PermissionDeniedError,
    QslurmError,
    RefusedError,
    TokenError,
    UncertainError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.slurm.rest.classify import GATEWAYS, ClassifiedResponse

_TOO_MUCH = "Ask for less, or ask C2's operators what the partition allows."

# By Slurm's error number (slurm_errno.h).
HINTS: dict[int, str] = {
    1: "Remove user_id and group_id: a job runs as the token's user.",
    2000: "Ask C2's operators which backends your center may use; the partition of a backend is p_<backend>.",
    2001: "Name a backend or a partition.",
    2003: "Ask C2's operators for access to the partition.",
    2005: _TOO_MUCH,
    2006: _TOO_MUCH,
    2009: "The payload has no batch script.",
    2010: "Remove user_id and group_id: a job runs as the token's user.",
    2012: "Slurm takes a script of at most 4 MiB, and a name and comment of at most 1024 characters.",
    2014: _TOO_MUCH,
    2015: _TOO_MUCH,
    2019: "The payload needs an environment, such as PATH.",
    2037: "C2's operators do not allow jobs of this kind from your center.",
    2038: "The job it depends on does not exist on C2.",
    2042: "Release it with `qslurm release`.",
    2045: "Ask C2's operators for your center's account, or omit it to use the default.",
    2048: "Ask C2's operators for the available licenses.",
    2050: "The center has reached its job limit. Wait for jobs to end, or ask C2's operators to raise it.",
    2051: "Use a shorter time limit; C2's operators set the partition's maximum.",
    2052: "The reservation is not for your center.",
    2053: "Unknown reservation on C2; ask its operators for the name.",
    2054: "Give times as Unix seconds.",
    2066: "Ask C2's operators for your center's qualities of service.",
    2068: "The nodes are down or reserved; try again later.",
    2070: "The partition is closed to new jobs; ask C2's operators when it opens.",
    2081: "C2 limits array indexes (1000 by default). Use fewer values in a sweep, or submit it in parts.",
    2105: "C2 accepts no jobs at the moment. Try again later.",
    2127: "The payload needs an environment, such as PATH.",
    9000: "",
    9002: "",
    9001: "This C2 does not support a field of the payload.",
    9200: "The payload needs an environment, such as PATH.",
    9202: "A field of the payload has the wrong type.",
    9209: "A field of the payload has the wrong type.",
}
_TOKEN_HINT = "Check it with `qslurm token check`; C2's operators issue new tokens."  # noqa: S105
_AGAIN = "Try again later; if it persists, tell C2's operators."
_LOOK_FIRST = "The job may have been accepted. Check `qslurm queue` before you submit it again."


# The kinds with a fixed message.
_ALWAYS: dict[str, tuple[type[QslurmError], str, str]] = {
    "token": (TokenError, "C2 refused the token.", _TOKEN_HINT),
    "token_or_silence": (UnreachableError, "C2's slurmrestd got no answer from its slurmctld.", _AGAIN),
    "no_accounting": (AccountingAwayError, "C2's accounting (slurmdbd or its database) is down.", _AGAIN),
    "token_or_accounting": (
        UnreachableError,
        "C2's accounting (slurmdbd) is down, or C2 refused the token.",
        "Check the token with `qslurm token check`; if it is valid, try again later.",
    ),
    "duplicate": (
        DuplicateError,
        "C2 has already accepted this submission (Slurm error 2011).",
        "It was not submitted twice.",
    ),
    "no_such_path": (
        UnreachableError,
        "C2's slurmrestd does not support this request.",
        'Set api_version = "auto".',
    ),
}

_MAY_HAVE_ACTED = ("token_or_silence", "token_or_accounting", "no_accounting")
"""Kinds after which the request may have taken effect."""


def error_for(response: ClassifiedResponse, what: str, *, submitting: bool = False) -> QslurmError:
    """The error of a response; `what` is the object of the request, such as "job 42".

    What may be a refused token or a daemon that is down counts as the latter (see `VersionNegotiation.to_error`). When
    `submitting`, it is an UncertainError if the job may exist.
    """
    number = f" (Slurm error {response.number})" if response.number > 0 else ""
    words = response.words.rstrip(".")
    if response.kind in _ALWAYS:
        error, sentence, hint = _ALWAYS[response.kind]
        if submitting and response.kind in _MAY_HAVE_ACTED:
            return UncertainError(sentence, hint=_LOOK_FIRST)
        return error(sentence, hint=hint)
    match response.kind:
        case "permission":
            return PermissionDeniedError(
                f"C2 denies this user access to {what}: {words}{number}.",
                hint="It belongs to another center.",
            )
        case "unknown_job":
            return UnknownJobError(f"C2 has no {what}.", hint="`qslurm queue` lists the known jobs.")
        case "no_controller":
            return UnreachableError(f"C2's slurmctld is unreachable: {words}{number}.", hint=_AGAIN)
        case "lost" | "token_or_cut" | "token_or_lost":
            sentence = f"C2's slurmctld received the request and did not answer: {words}{number}."
            return (
                UncertainError(sentence, hint=_LOOK_FIRST)
                if submitting
                else UnreachableError(sentence, hint=_AGAIN)
            )
        case "broken":
            away = response.number in GATEWAYS
            sentence = f"The response is not slurmrestd's: {words}."
            if away:
                sentence = f"C2's slurmrestd is down; the proxy in front of it answered: {words}."
            if submitting:
                return UncertainError(sentence, hint=_LOOK_FIRST)
            if away:
                return UnreachableError(sentence, hint=_AGAIN)
            return UnreachableError(sentence, hint="Check that the URL is slurmrestd's.")
        case "ok" | "accepted":
            return _without_job_id(response, what)
        case _:
            refusal = RefusedError(
                f"C2 refused {what}: {words}{number}.", hint=HINTS.get(response.number, "")
            )
            refusal.slurm_error = max(response.number, 0)
            return refusal


def _without_job_id(response: ClassifiedResponse, what: str) -> QslurmError:
    """A successful response without a job id, as 23.02 sends for a field of the wrong type."""
    if response.warnings:
        return RefusedError(
            f"C2 did not accept {what}: {'; '.join(response.warnings)}.", hint="Correct that field."
        )
    return UncertainError("C2 answered without a job id.", hint=_LOOK_FIRST)
