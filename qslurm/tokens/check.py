"""Is this center's token any good? What its file, its claims and, if asked, C2 itself say."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from qslurm.errors import TokenError
from qslurm.tokens.claims import Claims, inspect
from qslurm.tokens.lifetime import describe_expiry
from qslurm.tokens.secret import Secret
from qslurm.tokens.token_file import clean, read_token

WARN_BEFORE_S = 7 * 86400
"""Seconds before its end from which on a token is worth a warning."""


ENVIRONMENT = "SLURM_JWT in the environment"
"""Where a token is that is in no file."""


class Pings(Protocol):
    """What is asked of C2: a slurmrestd client that can say hello with the token."""

    def ping(self) -> object:
        """Raises a QslurmError if C2 does not answer, or refuses the token."""


class TokenReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a token; `expiry` and `c2` end a sentence about it, `warnings` are whole sentences."""

    path: str
    claims: Claims
    expiry: str
    seconds_left: float | None
    c2: str
    warnings: list[str]


def check_token(
    source: str | Path | Secret,
    *,
    connect: Callable[[Claims, Secret], Pings] | None = None,
    now: float | None = None,
    user: str = "",
) -> TokenReport:
    """Check a token in a file, or one that the environment gave; `user` is whom it is said to be for.

    `connect` makes a client from what the token says, and C2 is asked as well.

    TokenError if the file is unsafe, the token malformed, another user's or expired, or C2 refuses it;
    UnreachableError if C2 does not answer.
    """
    moment = time.time() if now is None else now
    token = clean(source.reveal()) if isinstance(source, Secret) else read_token(source)
    claims = inspect(token.reveal(), user=user)
    refuse_other_user(claims, user)
    refuse_expired(claims, moment)
    answer = ""
    if connect is not None:
        connect(claims, token).ping()
        answer = f"C2 accepts it for {claims.user}"
    return TokenReport(
        path=ENVIRONMENT if isinstance(source, Secret) else str(source),
        claims=claims,
        expiry="never expires" if claims.expires is None else describe_expiry(claims.expires, moment),
        seconds_left=None if claims.expires is None else claims.expires - moment,
        c2=answer,
        warnings=warnings(claims, moment),
    )


def refuse_other_user(claims: Claims, user: str) -> None:
    """TokenError if the token is not of the user that it is said to be of: C2 would only say that it refuses it."""
    if user and claims.user != user:
        raise TokenError(
            f"The token is {claims.user}'s, and the user on C2 is said to be {user}.",
            hint="Nobody needs to say it: leave out --user, QUSER, and user in the configuration.",
        )


def refuse_expired(claims: Claims, now: float) -> None:
    """TokenError if the token has ended: cheaper, and clearer, than C2's answer to it."""
    if claims.expires is not None and claims.expired(now):
        raise TokenError(
            f"The center's token has expired: it {describe_expiry(claims.expires, now)}.",
            hint="A center admin gets a new one from the platform's operators and runs `qslurm token install`;"
            " `qslurm doctor` says whether it is this machine's clock that is wrong.",
        )


def warnings(claims: Claims, now: float) -> list[str]:
    """What a center admin should know about a token that still works."""
    found = []
    if claims.expires is None:
        found.append("The token never expires, and C2 refuses such tokens.")
    elif claims.expires - now < WARN_BEFORE_S:
        found.append(f"The token {describe_expiry(claims.expires, now)}: ask for a new one now.")
    if claims.issued is not None and claims.issued > now + 60:
        found.append("The token was issued in the future: this machine's clock is behind, or C2's is ahead.")
    if claims.algorithm.lower() == "none":
        found.append("The token is not signed.")
    return found
