"""Decides whether a token is renewed, and signs the new one. Runs only in the renewal service."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.c2.tokens.issue import SHORTEST_S, refuse_masters, sign
from qslurm.c2.tokens.keys import CENTER_NAME, KeyHolder
from qslurm.c2.tokens.renewal_terms import RenewalTerms, read_terms
from qslurm.errors import InvalidInputError, PermissionDeniedError, TokenError, TooOftenError
from qslurm.tokens.claims import Claims, inspect
from qslurm.tokens.lifetime import describe_expiry
from qslurm.tokens.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

BURST = 10
"""Renewals that a center may request at once; its hosts without an agent each have their own token."""

EVERY_S = 30.0
"""Seconds until one more renewal is allowed."""

_FORGED = "The token was not issued to your center by this C2."
_ASK = "Ask C2's operators for a new token."


class RenewedToken(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a request; `token` is None if it was not renewed. Renewals end at `until` (Unix seconds)."""

    center: str
    claims: Claims
    until: int
    token: Secret | None = None


class Allowance:
    """A token bucket per center: BURST renewals, one more every EVERY_S."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: dict[str, float] = {}  # when the center's bucket is full again

    def take(self, center: str) -> None:
        """Count a renewal; TooOftenError if none is left."""
        now = self._clock()
        full_at = max(now, self._full_at.get(center, now)) + EVERY_S
        if full_at > now + BURST * EVERY_S:
            raise TooOftenError(
                f"Center {center} renews its token too often.",
                hint=f"One renewal every {EVERY_S:g} s is allowed.",
            )
        self._full_at[center] = full_at


class Renewals:
    """Renews valid tokens. Not thread-safe. `masters` are users for whom no token is signed."""

    def __init__(
        self,
        config: TokensConfig,
        *,
        user_prefix: str,
        masters: Sequence[str],
        clock: Callable[[], float] = time.time,
        allowance: Allowance | None = None,
        keys: KeyHolder | None = None,
    ) -> None:
        self._config, self._prefix, self._masters = config, user_prefix, masters
        self._clock = clock
        self._allowance = allowance or Allowance()
        self._keys = keys or KeyHolder(config)

    def check(self, token: str) -> RenewedToken:
        """What `renew` would return, without a new token; raises its errors."""
        claims, terms, _ = self._checked(token)
        return RenewedToken(center=claims.key_id, claims=claims, until=terms.until)

    def renew(self, token: str) -> RenewedToken:
        """Sign a new token for the same user with the same key.

        TokenError for a token that C2 does not accept, PermissionDeniedError if renewal is disabled, TooOftenError
        for a center that renews too often.
        """
        claims, terms, key = self._checked(token)
        self._allowance.take(claims.key_id)
        now = int(self._clock())
        expires = min(now + terms.seconds(self._config), terms.until)
        if claims.expires is not None and expires <= claims.expires:
            raise PermissionDeniedError(
                f"The new token would expire no later than this one, which {describe_expiry(claims.expires, now)}.",
                hint="Renew it later. If renewals end then, ask C2's operators.",
            )
        fresh = sign(key, claims.key_id, claims.user, now, expires)
        return RenewedToken(center=claims.key_id, claims=fresh.claims, until=terms.until, token=fresh.token)

    def _checked(self, token: str) -> tuple[Claims, RenewalTerms, RSAPrivateKey]:
        now = self._clock()
        claims, key = self._verified(token, now)
        refuse_masters(claims.user, self._masters)
        terms = read_terms(self._config, claims.key_id)
        if terms.until - now < SHORTEST_S:
            raise PermissionDeniedError(
                f"Renewal is disabled for the tokens of {claims.key_id}{_since(terms, now)}.",
                hint=f"This one {describe_expiry(claims.expires or 0, now)}. {_ASK}",
            )
        return claims, terms, key

    def _verified(self, token: str, now: float) -> tuple[Claims, RSAPrivateKey]:
        """A token's claims and key, if its center's key has signed it for that center's user."""
        import jwt

        claims = inspect(token)  # not verified until jwt.decode
        if claims.algorithm != "RS256":
            raise TokenError(
                "Only tokens signed with a center's own key (RS256) can be renewed.",
                hint=_ASK,
            )
        if not CENTER_NAME.fullmatch(claims.key_id) or claims.user != self._prefix + claims.key_id:
            raise TokenError(_FORGED, hint=_ASK)
        try:
            key = self._keys.key(claims.key_id)
            jwt.decode(
                token,
                key.public_key(),
                algorithms=["RS256"],
                options={"require": ["exp"], "verify_exp": False, "verify_iat": False, "verify_aud": False},
            )
        except (InvalidInputError, jwt.PyJWTError):
            # not chained, and the same message for an unknown and a wrong key: an attacker learns nothing
            raise TokenError(_FORGED, hint=_ASK) from None
        if claims.expired(now):
            raise TokenError(f"The token {describe_expiry(claims.expires or 0, now)}.", hint=_ASK)
        return claims, key


def _since(terms: RenewalTerms, now: float) -> str:
    return f" since {describe_expiry(terms.until, now).partition(', ')[2]}" if 0 < terms.until <= now else ""
