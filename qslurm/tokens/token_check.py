"""Checks a center's token: its file, its claims and, optionally, against C2."""

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
"""Seconds before expiry from which a warning is given."""


ENVIRONMENT = "SLURM_JWT in the environment"
"""The source of a token without a file."""


class Pings(Protocol):
    """The part of the slurmrestd client that the check uses."""

    def ping(self) -> object:
        """Ping C2; QslurmError if it does not answer or refuses the token."""


class TokenReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report on a token; `expiry` and `c2` are sentence fragments, `warnings` are sentences."""

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
    """Check a token from a file or the environment; `user` is the configured user.

    `connect` makes a client from the token's claims, to check the token with C2.

    TokenError if the file is unsafe, or the token is malformed, another user's, expired or refused by C2;
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
        answer = f"accepted for user {claims.user}"
    return TokenReport(
        path=ENVIRONMENT if isinstance(source, Secret) else str(source),
        claims=claims,
        expiry="never expires" if claims.expires is None else describe_expiry(claims.expires, moment),
        seconds_left=None if claims.expires is None else claims.expires - moment,
        c2=answer,
        warnings=warnings(claims, moment),
    )


def refuse_other_user(claims: Claims, user: str) -> None:
    """TokenError if the token is for another user than configured; C2 would only refuse it."""
    if user and claims.user != user:
        raise TokenError(
            f"The token is for user {claims.user}, but the configured user is {user}.",
            hint="Remove --user, QUSER, and user in the configuration; the token's user is the default.",
        )


def refuse_expired(claims: Claims, now: float) -> None:
    """TokenError if the token has expired."""
    if claims.expires is not None and claims.expired(now):
        raise TokenError(
            f"The center's token {describe_expiry(claims.expires, now)}.",
            hint="A center admin gets a new token from C2's operators and runs `qslurm token install`;"
            " `qslurm doctor` checks this machine's clock.",
        )


def warnings(claims: Claims, now: float) -> list[str]:
    """Warnings about a valid token."""
    found = []
    if claims.expires is None:
        found.append("The token never expires, and C2 refuses such tokens.")
    elif claims.expires - now < WARN_BEFORE_S:
        found.append(f"The token {describe_expiry(claims.expires, now)}. Ask for a new one now.")
    if claims.issued is not None and claims.issued > now + 60:
        found.append("The token's issue time is in the future: check the clocks of this machine and C2.")
    if claims.algorithm.lower() == "none":
        found.append("The token is not signed.")
    return found
