"""Verifies centers' tokens with the public keys that slurmctld uses.

Slurm does not bind a key to a user: a center's key could sign for any user. Here the key's id must be the center of
the token's user.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import msgspec

from qslurm.errors import QslurmError, TokenError
from qslurm.tokens.claims import LIMIT, inspect
from qslurm.tokens.lifetime import describe_expiry

if TYPE_CHECKING:
    from collections.abc import Mapping

_HINT = "Use the token that C2's operators issued to your center. `qslurm token check` shows what it says."


class Keyring:
    """The public keys in C2's JWKS file, which is read again when it changes: a revoked key is invalid at once."""

    def __init__(self, jwks: str | Path, *, hs256_key: str | Path = "") -> None:
        self._path = Path(jwks)
        self._shared = Path(hs256_key) if hs256_key else None
        self._lock = threading.Lock()
        self._read: tuple[int, int, int] | None = None
        self._keys: Mapping[str, Any] = {}

    def key(self, center: str) -> Any | None:
        """The public key of a center, or None. QslurmError if the file can't be read."""
        with self._lock:
            self._refresh()
            return self._keys.get(center)

    def shared_key(self) -> bytes | None:
        """The key of HS256 tokens, or None if the configuration names none."""
        if self._shared is None:
            return None
        try:
            return self._shared.read_bytes()
        except OSError as error:
            raise QslurmError(f"Cannot read the shared key {self._shared}: {error.strerror}.") from error

    def _refresh(self) -> None:
        try:
            facts = self._path.stat()
            version = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
            if version == self._read:
                return
            self._keys = _parse_keys(self._path.read_bytes())
            self._read = version
        except (OSError, ValueError, msgspec.DecodeError, jwt.PyJWTError) as error:
            self._read, self._keys = None, {}
            raise QslurmError(
                f"Cannot read the keys in {self._path}: {error}.",
                hint="On C2, check them with `qslurm token key`.",
            ) from error


class _Jwks(msgspec.Struct):
    keys: list[dict[str, Any]]


def _parse_keys(data: bytes) -> dict[str, Any]:
    entries = msgspec.json.decode(data, type=_Jwks).keys
    usable = [entry for entry in entries if entry.get("kty", "RSA") == "RSA" and entry.get("alg") == "RS256"]
    return {str(entry["kid"]): jwt.PyJWK({"kty": "RSA"} | entry).key for entry in usable if "kid" in entry}


def verify(token: str, keyring: Keyring, user_prefix: str, now: float) -> str:
    """The center of a valid token; TokenError if it is invalid or has expired."""
    if not token or len(token) > LIMIT:
        raise TokenError("The request carries no valid token.", hint=_HINT)
    unverified = inspect(token)  # only to select the key
    key, algorithm = _key_for(unverified.algorithm, unverified.key_id, keyring)
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            options={"require": ["exp"], "verify_exp": False, "verify_iat": False, "verify_aud": False},
        )
    except jwt.MissingRequiredClaimError:
        raise TokenError("The token never expires. Such tokens are not accepted.", hint=_HINT) from None
    except jwt.PyJWTError:
        # Not chained, and the same message for every reason: an attacker learns nothing.
        raise TokenError("The token was not issued to your center by this C2.") from None
    if unverified.expired(now) and unverified.expires is not None:
        raise TokenError(
            f"The token {describe_expiry(unverified.expires, now)}.",
            hint="Ask C2's operators for a new token.",
        )
    return _center(claims, unverified.key_id if algorithm == "RS256" else None, user_prefix)


def _key_for(algorithm: str, key_id: str, keyring: Keyring) -> tuple[Any, str]:
    if algorithm == "RS256":
        key = keyring.key(key_id)
        if key is not None:
            return key, "RS256"
    elif algorithm == "HS256":
        shared = keyring.shared_key()
        if shared is not None:
            return shared, "HS256"
    raise TokenError("The token was not issued to your center by this C2.")


def _center(claims: dict[str, Any], key_id: str | None, user_prefix: str) -> str:
    user = claims.get("sun", claims.get("username"))
    if not isinstance(user, str) or not user.startswith(user_prefix) or user == user_prefix:
        raise TokenError("The token does not belong to a center.", hint=_HINT)
    center = user[len(user_prefix) :]
    if key_id is not None and key_id != center:
        raise TokenError("The token was not issued to your center by this C2.")
    return center
