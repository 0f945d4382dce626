"""Renews the center's token, according to C2's clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from qslurm.c1.config.settings import expanded
from qslurm.errors import QslurmError, TokenError, UnknownJobError, UnreachableError
from qslurm.tokens.claims import Claims, inspect
from qslurm.tokens.secret import Secret
from qslurm.tokens.token_check import refuse_expired
from qslurm.tokens.token_file import check_replaceable, clean, read_token, replace_token

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config

SHARE = 0.8
"""Fraction of a token's lifetime after which it is renewed."""

SPREAD = 0.02
"""Random part of the lifetime by which it is renewed earlier, to spread renewals."""


class TokenIssuer(Protocol):
    """The part of JobManagerClient that renewal uses."""

    def renewal(self, *, only_look: bool) -> dict[str, Any]: ...  # noqa: D102
    def clock(self) -> float: ...  # noqa: D102


class ReceivedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A renewed token with its claims, and the end of renewals (Unix seconds; None if unknown)."""

    token: Secret
    claims: Claims
    until: int | None


def due(claims: Claims, *, issued: float, chance: float) -> tuple[float, float]:
    """When a token is due for renewal, and when it is overdue, in Unix seconds.

    `issued` is used for a token without the time of its issue; `chance`, from 0 to 1, spreads renewals.
    """
    begin = issued if claims.issued is None else claims.issued
    end = claims.expires if claims.expires is not None else float("inf")
    renew_at = begin + (SHARE - SPREAD * chance) * max(0.0, end - begin)
    return renew_at, renew_at + (end - renew_at) / 2


def ends_soon(claims: Claims, until: int | None) -> bool:
    """Whether renewals end before a renewed token would expire."""
    if until is None or claims.issued is None or claims.expires is None:
        return False
    return until < 2 * claims.expires - claims.issued


def renewable_until(platform: TokenIssuer) -> int | None:
    """The end of C2's renewals; TokenError if it allows none, UnreachableError if it does not answer."""
    return _number(_request_renewal(platform, only_look=True), "renewable_until")


def fresh_token(platform: TokenIssuer, old: Claims) -> ReceivedToken:
    """A new token to replace `old`; TokenError if C2 issues none, UnreachableError for an invalid response."""
    document = _request_renewal(platform, only_look=False)
    try:
        token = clean(str(document["token"]))
        claims = inspect(token.reveal())
    except (KeyError, TokenError) as error:
        raise UnreachableError(
            "C2's response to the renewal contains no token.", hint="Tell C2's operators."
        ) from error
    if (claims.user, claims.key_id) != (old.user, old.key_id):
        raise UnreachableError("C2 sent another center's token.", hint="Tell C2's operators.")
    if claims.expires is None or (old.expires is not None and claims.expires <= old.expires):
        raise UnreachableError("C2 sent a token that does not expire later.", hint="Tell C2's operators.")
    return ReceivedToken(token=token, claims=claims, until=_number(document, "renewable_until"))


def _request_renewal(platform: TokenIssuer, *, only_look: bool) -> dict[str, Any]:
    try:
        return platform.renewal(only_look=only_look)
    except UnknownJobError as error:  # 404: an older job manager
        raise TokenError(
            "This C2 does not renew tokens.",
            hint="Ask C2's operators for a new token before this one expires.",
        ) from error


def _number(document: dict[str, Any], name: str) -> int | None:
    value = document.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40 else None


class C2Clock:
    """C2's clock; until it has been read, this machine's."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._wall, self._steady = wall, steady
        self._ahead: float | None = None  # of the steady clock
        self._read_at: float | None = None

    def now(self) -> float:
        """The time in Unix seconds."""
        return self._wall() if self._ahead is None else self._steady() + self._ahead

    def off(self) -> float:
        """Seconds by which this machine's clock is ahead of C2's, as far as known."""
        return self._wall() - self.now()

    def set_by(self, platform: TokenIssuer, *, every_s: float) -> None:
        """Read C2's clock if the last reading is older than `every_s`; keeps the last one on failure."""
        before = self._steady()
        if self._read_at is not None and before - self._read_at < every_s:
            return
        try:
            date = platform.clock()
        except QslurmError:
            return  # renewals fail as well then, and report it
        after = self._steady()
        self._read_at = after
        self._ahead = date + 0.5 - (before + after) / 2  # Date has whole seconds


class RenewalOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of checking, and possibly renewing, the token in a file. Times are Unix seconds."""

    renewed: bool
    claims: Claims
    renew_at: float
    until: int | None
    ends_soon: bool


def renew_file(config: Config, *, at_once: bool = False) -> RenewalOutcome:
    """Renew the configured token file if it is due, or `at_once`; otherwise check that C2 allows renewal.

    The new token replaces the old one, with the same mode and group, once C2's Slurm has accepted it. TokenError if C2
    does not renew it or the file cannot be replaced, UnreachableError if C2 does not answer.
    """
    from qslurm.c1.connection.api_versions import connect
    from qslurm.c1.connection.center_connection import job_manager_client

    path = expanded(config.c2.token_file)
    token = read_token(path)
    claims = inspect(token.reveal(), user=config.c2.user)
    platform = job_manager_client(config, token)
    clock = C2Clock()
    clock.set_by(platform, every_s=0)
    now = clock.now()
    refuse_expired(claims, now)
    check_replaceable(path)
    renew_at, _ = due(claims, issued=now, chance=0.0)
    renewed = at_once or now >= renew_at
    if renewed:
        fresh = fresh_token(platform, claims)
        with connect(config, fresh.token, user=fresh.claims.user) as client:
            client.ping()
        replace_token(path, fresh.token)
        claims, until = fresh.claims, fresh.until
        renew_at, _ = due(claims, issued=now, chance=0.0)
    else:
        until = renewable_until(platform)
    return RenewalOutcome(
        renewed=renewed, claims=claims, renew_at=renew_at, until=until, ends_soon=ends_soon(claims, until)
    )
