"""Issues a center's token, on C2."""

from __future__ import annotations

import pwd
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.c2.tokens.keys import check_center_name, private_key
from qslurm.errors import InvalidInputError, PermissionDeniedError
from qslurm.tokens.claims import Claims, inspect
from qslurm.tokens.lifetime import describe_lifetime, parse_lifetime
from qslurm.tokens.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

SHORTEST_S = 60


class IssuedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A new token and its claims."""

    token: Secret
    claims: Claims


def issue_token(
    config: TokensConfig,
    center: str,
    lifetime: str,
    *,
    user_prefix: str = "center_",
    masters: Sequence[str] = ("slurm",),
    now: float | None = None,
) -> IssuedToken:
    """Sign a token for a center's user on C2 (`<user_prefix><center>`) with this lifetime (`30d`, `12h`).

    Claims are `sun`, `iat` and `exp`; the header's `kid` is the center (accepted by Slurm 22.05, measured).
    InvalidInputError for a center without a key, and for a lifetime out of bounds; PermissionDeniedError for root and
    `masters` (SlurmUser), because slurmctld lets their tokens act as any user.
    """
    user = user_prefix + check_center_name(center)
    seconds = _bounded(parse_lifetime(lifetime), config)
    refuse_masters(user, masters)
    issued = int(time.time() if now is None else now)
    return sign(private_key(config, center), center, user, issued, issued + seconds)


def sign(key: RSAPrivateKey, center: str, user: str, issued: int, expires: int) -> IssuedToken:
    """Sign a token with these claims; times are Unix seconds."""
    import jwt

    claims = {"sun": user, "iat": issued, "exp": expires}
    text = jwt.encode(claims, key, algorithm="RS256", headers={"kid": center})
    return IssuedToken(token=Secret(text), claims=inspect(text))


def unknown_user_warning(claims: Claims) -> str:
    """A warning if the token's user does not exist on this host, so that Slurm refuses it; else ""."""
    try:
        pwd.getpwnam(claims.user)
    except KeyError:
        return f"User {claims.user} does not exist on this host. Slurm refuses its jobs until it does."
    return ""


def _bounded(seconds: int, config: TokensConfig) -> int:
    longest = parse_lifetime(config.max_lifetime)
    if not SHORTEST_S <= seconds <= longest:
        raise InvalidInputError(
            f"Invalid lifetime {describe_lifetime(seconds)}. "
            f"It must be between {describe_lifetime(SHORTEST_S)} and {describe_lifetime(longest)}.",
            hint="Raise max_lifetime under [tokens] in the C2 configuration.",
        )
    return seconds


def refuse_masters(user: str, masters: Sequence[str]) -> None:
    """PermissionDeniedError for root and SlurmUser, by name or by uid."""
    ids = {0}.union(*(_uid(name) for name in masters))
    if user in {"root", *masters} or _uid(user) & ids:
        raise PermissionDeniedError(
            f"Refusing to issue a token for {user}: it could act for every center.",
            hint="Create a user for each center, without rights on C2.",
        )


def _uid(name: str) -> set[int]:
    try:
        return {pwd.getpwnam(name).pw_uid}
    except KeyError:
        return set()
