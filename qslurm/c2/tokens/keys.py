"""One key pair per center, on C2: the private key signs its tokens, the public key is in the JWKS file.

Slurm does not bind a key to a user: a private key can sign for any user. So private keys stay in one directory (0700)
on C2, owned by the renewal service's user or root. The JWKS file is written anew from that directory at each change,
which repairs a lost or edited one. Slurm 22.05 reads only `alg`, `kid`, `n` and `e` of each key (measured).
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.c2.tokens.renewal_terms import forget_terms
from qslurm.errors import InvalidInputError, PermissionDeniedError, QslurmError
from qslurm.system.atomic_file import write_atomically

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

KEY_BITS = 3072
CENTER_NAME = re.compile(r"[a-z][a-z0-9_-]{0,23}")
"""A center's name is part of a Unix user's name, a file's name and a key's id."""


class CenterKey(msgspec.Struct, frozen=True, kw_only=True):
    """A center's key. `fingerprint` is the SHA-256 of the public key, its first 16 hexadecimal digits."""

    center: str
    fingerprint: str
    created: float


def check_center_name(center: str) -> str:
    """Return the name; InvalidInputError if invalid."""
    if not CENTER_NAME.fullmatch(center):
        raise InvalidInputError(
            f"Invalid center name {center!r}.",
            hint="Use at most 24 lower-case letters, digits, - and _, starting with a letter, for example snellius.",
        )
    return center


def create_key(config: TokensConfig, center: str) -> bool:
    """Create a center's key pair unless it has one, and update the JWKS file.

    True if it is new: slurmctld and slurmdbd read it when they restart. PermissionDeniedError without access.
    """
    path = _key_path(config, check_center_name(center))
    with _locked(config):
        new = not path.exists()
        # The key belongs to the directory's owner: the renewal service must read it.
        folder = path.parent.stat()
        if new:
            write_atomically(path, _new_private_key(), mode=0o600, owner=folder.st_uid, group=folder.st_gid)
        elif os.geteuid() == 0:
            os.chown(path, folder.st_uid, folder.st_gid, follow_symlinks=False)
        _write_jwks(config)
    return new


def remove_key(config: TokensConfig, center: str) -> None:
    """Revoke a center's tokens: slurmctld and slurmdbd refuse them after a restart, other services at once.

    InvalidInputError if the center has no key.
    """
    path = _key_path(config, check_center_name(center))
    with _locked(config):
        if not path.exists():
            raise _no_key(config, center)
        path.unlink()
        forget_terms(config, center)
        _write_jwks(config)


def list_keys(config: TokensConfig) -> list[CenterKey]:
    """The keys of all centers, by name."""
    with _locked(config):
        return [
            CenterKey(center=path.stem, fingerprint=_fingerprint(path), created=path.stat().st_mtime)
            for path in _key_files(config)
        ]


def require_key(config: TokensConfig, center: str) -> None:
    """InvalidInputError if a center has no key."""
    path = _key_path(config, check_center_name(center))
    with _locked(config):
        if not path.exists():
            raise _no_key(config, center)


def private_key(config: TokensConfig, center: str) -> RSAPrivateKey:
    """A center's private key; InvalidInputError if it has none, QslurmError if the file is unsafe or damaged."""
    path = _key_path(config, check_center_name(center))
    with _locked(config):
        if not path.exists():
            raise _no_key(config, center)
        return _load(path)


class KeyHolder:
    """Centers' private keys. A key is loaded once (0.1 s), and again after its file has changed."""

    def __init__(self, config: TokensConfig) -> None:
        self._config = config
        self._keys: dict[str, tuple[tuple[int, int, int], RSAPrivateKey]] = {}

    def key(self, center: str) -> RSAPrivateKey:
        """See `private_key`."""
        try:
            facts = _key_path(self._config, check_center_name(center)).stat()
            version = (facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns)
        except OSError:
            self._keys.pop(center, None)
            return private_key(self._config, center)  # raises the specific error
        held = self._keys.get(center)
        if held is None or held[0] != version:
            held = self._keys[center] = version, private_key(self._config, center)
        return held[1]


def _key_path(config: TokensConfig, center: str) -> Path:
    return Path(config.keys) / f"{center}.pem"


def _key_files(config: TokensConfig) -> list[Path]:
    return sorted(path for path in Path(config.keys).glob("*.pem") if CENTER_NAME.fullmatch(path.stem))


def _no_key(config: TokensConfig, center: str) -> InvalidInputError:
    known = ", ".join(path.stem for path in _key_files(config)) or "none"
    return InvalidInputError(
        f"Center {center!r} has no key. Centers with a key: {known}.",
        hint=f"Create it with `qslurm token key --center {center}`, then restart slurmctld and slurmdbd.",
    )


@contextmanager
def _locked(config: TokensConfig) -> Iterator[None]:
    """Lock the directory, so that two concurrent commands don't lose a key from the JWKS file."""
    folder = Path(config.keys)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError as error:
        raise PermissionDeniedError(
            f"Permission denied: the keys in {folder}.",
            hint="Run this as the owner of the keys, usually root.",
        ) from error
    except OSError as error:
        raise QslurmError(f"Cannot use the key directory {folder}: {error.strerror}.") from error
    try:
        if stat.S_IMODE(os.fstat(handle).st_mode) & 0o077:
            raise QslurmError(
                f"The private key directory {folder} is accessible by others.",
                hint=f"Run `chmod 700 {folder}`. Replace the keys if they may have been read.",
            )
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    except PermissionError as error:
        raise PermissionDeniedError(
            f"Permission denied: {error.filename or folder}.",
            hint="Run this as the owner of the keys, usually root.",
        ) from error
    finally:
        os.close(handle)


def _new_private_key() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load(path: Path) -> RSAPrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise QslurmError(
            f"The private key {path} is readable by others.",
            hint="Revoke it with `qslurm token revoke --center NAME`, then create a new one.",
        )
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise QslurmError(
            f"The private key {path} is damaged.",
            hint="Restore it from a backup, or remove it and create a new one.",
        ) from error
    if not isinstance(key, RSAPrivateKey):
        raise QslurmError(f"The private key {path} is not an RSA key. Slurm supports no other kind.")
    return key


def _fingerprint(path: Path) -> str:
    import hashlib

    from cryptography.hazmat.primitives import serialization

    public = (
        _load(path)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return hashlib.sha256(public).hexdigest()[:16]


def _write_jwks(config: TokensConfig) -> None:
    keys = [_public_entry(path.stem, _load(path)) for path in _key_files(config)]
    path = Path(config.jwks)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode({"keys": keys}), indent=2) + b"\n"
    # World-readable; slurmctld does not start if others may write it.
    write_atomically(path, data, mode=0o644)


def _public_entry(center: str, key: RSAPrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    return {
        "kid": center,
        "kty": "RSA",
        "alg": "RS256",
        "use": "sig",
        "n": _base64(numbers.n),
        "e": _base64(numbers.e),
    }


def _base64(number: int) -> str:
    return urlsafe_b64encode(number.to_bytes((number.bit_length() + 7) // 8)).rstrip(b"=").decode()
