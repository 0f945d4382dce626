"""From a verdict to the error a user meets: what is wrong, and what to do about it."""

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
from qslurm.slurm.rest.classify import GATEWAYS, Verdict

_TOO_MUCH = "Ask for less, or ask C2's operators what the partition allows."

# By Slurm's error number (slurm_errno.h). Which partition, account or field it is, is known to the caller.
HINTS: dict[int, str] = {
    1: "A job runs as the token's user: leave user_id and group_id out.",
    2000: "Ask C2's operators which backends your center may use; the partition of a backend is p_<backend>.",
    2001: "Name a backend or a partition.",
    2003: "Ask C2's operators for access to the partition.",
    2005: _TOO_MUCH,
    2006: _TOO_MUCH,
    2009: "The payload has no batch script.",
    2010: "A job runs as the token's user: leave user_id and group_id out.",
    2012: "Slurm takes a script of at most 4 MiB, and a name and comment of at most 1024 characters.",
    2014: _TOO_MUCH,
    2015: _TOO_MUCH,
    2019: "The payload needs an environment, such as PATH.",
    2037: "C2 takes no jobs of this kind from your center; which it takes is its operators' choice.",
    2038: "The job it depends on is not known on C2.",
    2042: "Release it when it may run.",
    2045: "Ask C2's operators which account your center has on C2; the default one needs no naming.",
    2048: "Ask C2's operators which licenses there are.",
    2050: "The center has as many jobs as it may have; wait for some to end, or ask C2's operators for more.",
    2051: "Give a shorter time limit; the partition's maximum is C2's operators' to set.",
    2052: "The reservation is for others.",
    2053: "No such reservation on C2; ask its operators for the name.",
    2054: "Give times as Unix seconds.",
    2066: "Ask C2's operators which qualities of service your center has.",
    2068: "The nodes are down or reserved; try again later.",
    2070: "The partition is closed to new jobs; ask C2's operators when it opens.",
    2081: "C2 has no index so high in an array (1000 by default); give a sweep fewer values, or submit it in parts.",
    2105: "C2 takes no jobs at the moment; try again later.",
    2127: "The payload needs an environment, such as PATH.",
    9000: "",
    9002: "",
    9001: "A field of the payload is not one that this C2 knows.",
    9200: "The payload needs an environment, such as PATH.",
    9202: "A field of the payload has the wrong type.",
    9209: "A field of the payload has the wrong type.",
}
_TOKEN_HINT = "Look at it with `qslurm token check`; C2's operators issue a new one."  # noqa: S105
_AGAIN = "Try again later; if it stays so, tell C2's operators."
_LOOK_FIRST = "It may have been accepted: look with `qslurm queue` before you submit it again."


# The kinds whose sentence is always the same.
_ALWAYS: dict[str, tuple[type[QslurmError], str, str]] = {
    "token": (TokenError, "C2 refused the token.", _TOKEN_HINT),
    "token_or_silence": (UnreachableError, "C2's slurmrestd got no answer from its slurmctld.", _AGAIN),
    "no_accounting": (AccountingAwayError, "C2's accounting (slurmdbd, or its database) is away.", _AGAIN),
    "token_or_accounting": (
        UnreachableError,
        "C2's accounting (slurmdbd) is away, or C2 refused the token without saying so.",
        "Look at the token with `qslurm token check`; if it is good, try again later.",
    ),
    "duplicate": (
        DuplicateError,
        "C2 has accepted this submission before (Slurm error 2011).",
        "It is not sent twice.",
    ),
    "no_such_path": (
        UnreachableError,
        "C2's slurmrestd does not serve this.",
        'Let qslurm find the API version: api_version = "auto".',
    ),
}

_LEAVES_OPEN = ("token_or_silence", "token_or_accounting", "no_accounting")
"""Of these, what was asked may have been done."""


def error_for(verdict: Verdict, what: str, *, submitting: bool = False) -> QslurmError:
    """The error that a verdict stands for; `what` was asked, as in "the job" or "job 42".

    What may be a refused token or a silence counts as a silence: who refuses a token says so when asked (see
    `Conversation.explained`). While submitting, whatever leaves open if the job exists is an UncertainError.
    """
    number = f" (Slurm error {verdict.number})" if verdict.number > 0 else ""
    words = verdict.words.rstrip(".")
    if verdict.kind in _ALWAYS:
        error, sentence, hint = _ALWAYS[verdict.kind]
        if submitting and verdict.kind in _LEAVES_OPEN:
            return UncertainError(sentence, hint=_LOOK_FIRST)
        return error(sentence, hint=hint)
    match verdict.kind:
        case "permission":
            return PermissionDeniedError(
                f"C2 does not let this user touch {what}: {words}{number}.",
                hint="It belongs to another center.",
            )
        case "unknown_job":
            return UnknownJobError(f"C2 knows no {what}.", hint="`qslurm queue` lists the jobs it knows.")
        case "no_controller":
            return UnreachableError(f"C2's slurmctld is not there: {words}{number}.", hint=_AGAIN)
        case "lost" | "token_or_cut" | "token_or_lost":
            sentence = f"C2's slurmctld took the request and did not answer: {words}{number}."
            return (
                UncertainError(sentence, hint=_LOOK_FIRST)
                if submitting
                else UnreachableError(sentence, hint=_AGAIN)
            )
        case "broken":
            away = verdict.number in GATEWAYS
            sentence = f"C2 answered, but not like a slurmrestd: {words}."
            if away:
                sentence = f"C2's slurmrestd is not there, says what stands before it ({words})."
            if submitting:
                return UncertainError(sentence, hint=_LOOK_FIRST)
            if away:
                return UnreachableError(sentence, hint=_AGAIN)
            return UnreachableError(sentence, hint="Is the URL that of a slurmrestd?")
        case "ok" | "accepted":
            return _without_job_id(verdict, what)
        case _:
            refusal = RefusedError(f"C2 refused {what}: {words}{number}.", hint=HINTS.get(verdict.number, ""))
            refusal.slurm_error = max(verdict.number, 0)
            return refusal


def _without_job_id(verdict: Verdict, what: str) -> QslurmError:
    """A good answer without the job id that was due; 23.02 gives one, with a warning, for a field of the wrong type."""
    if verdict.warnings:
        return RefusedError(
            f"C2 did not take {what}: {'; '.join(verdict.warnings)}.", hint="Correct that field."
        )
    return UncertainError("C2 answered without a job id.", hint=_LOOK_FIRST)
