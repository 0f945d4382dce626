"""Reads a token's claims without verifying its signature.

Nothing here proves anything; only C2 can. It runs at every submission, so it imports nothing heavy.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from datetime import UTC, datetime
from typing import Any

import msgspec

from qslurm.errors import TokenError

LIMIT = 16 * 1024
"""Maximum characters of a token; a center's token has about 700."""

_HINT = "Install the token again, as C2's operators issued it: `qslurm token install`."


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """A token's user and times in Unix seconds; `expires` is None if it never expires.

    `key_id` is the `kid` of the key it says it was signed with: on C2 the center's name, "" for a shared key.
    """

    user: str
    issued: int | None
    expires: int | None
    key_id: str
    algorithm: str

    def expired(self, now: float) -> bool:
        """Whether the token has expired at that time."""
        return self.expires is not None and self.expires <= now


def inspect(token: str, *, user: str = "") -> Claims:
    """Parse a token; TokenError, without quoting the token, if invalid.

    `user` is the default for a token without a user claim: Slurm can be configured to read another claim than `sun`.
    """
    parts = token.split(".")
    if len(token) > LIMIT or len(parts) != 3 or not all(parts):
        raise TokenError("Invalid token: a JWT has three parts separated by dots.", hint=_HINT)
    header, body = _decode(parts[0], "header"), _decode(parts[1], "claims")
    claimed = body.get("sun", body.get("username"))
    if claimed is None and user:
        claimed = user
    if not isinstance(claimed, str) or not claimed:
        raise TokenError("The token names no Slurm user (claim `sun`).", hint=_HINT)
    return Claims(
        user=claimed,
        issued=_time(body, "iat"),
        expires=_time(body, "exp"),
        key_id=_text(header, "kid"),
        algorithm=_text(header, "alg"),
    )


def _decode(part: str, what: str) -> dict[str, Any]:
    try:
        raw = urlsafe_b64decode(part + "=" * (-len(part) % 4))
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (binascii.Error, UnicodeError, ValueError, msgspec.DecodeError, RecursionError) as error:
        # The cause is not chained: its text quotes the token.
        del error
        raise TokenError(f"Invalid token: its {what} is truncated or altered.", hint=_HINT) from None


def _time(claims: dict[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        # Slurm refuses such a token too (measured with 22.05: an exp with a fraction).
        raise TokenError(f"The token's `{name}` is not a whole number of seconds.", hint=_HINT)
    try:
        datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError):
        raise TokenError(f"The token's `{name}` is not a date.", hint=_HINT) from None
    return value


def _text(header: dict[str, Any], name: str) -> str:
    value = header.get(name, "")
    return value if isinstance(value, str) else ""
