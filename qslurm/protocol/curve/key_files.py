"""Key pairs for CURVE, in files of one line.

Only its owner can read a secret key's file. The public key is in a file beside it, to be copied to the peer. Both are
Z85 text of 40 characters (ZeroMQ's RFC 32).
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from qslurm.errors import ConfigError, InvalidInputError
from qslurm.system.atomic_file import write_atomically

SECRET_SUFFIX, PUBLIC_SUFFIX = ".key", ".pub"

_Z85 = re.compile(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_READ_BYTES = 64  # of a key's file


@dataclass(frozen=True)
class KeyPair:
    """A public and a secret key, as Z85. `repr` does not show the secret key."""

    public: bytes
    secret: bytes = field(repr=False)


def make_keys(path: Path) -> KeyPair:
    """Create a key pair: the secret key at `path` (mode 0600), the public key beside it, with the suffix `.pub`.

    InvalidInputError if one of the files exists or can't be written.
    """
    import zmq

    public_path = path.with_suffix(PUBLIC_SUFFIX)
    for file in (path, public_path):
        if file.exists():
            raise InvalidInputError(
                f"The key file {file} exists.", hint="Move it away, or give another name."
            )
    public, secret = zmq.curve_keypair()
    try:
        write_atomically(path, secret + b"\n", mode=0o600)
        write_atomically(public_path, public + b"\n", mode=0o644)
    except OSError as error:
        raise InvalidInputError(f"Cannot write the key to {path}: {error.strerror}.") from error
    return KeyPair(public, secret)


def read_keys(path: Path) -> KeyPair:
    """The key pair of a secret key's file.

    ConfigError unless the file belongs to root or this user, and no other user can read it.
    """
    import zmq

    text, facts = _read(path)
    if facts.st_mode & 0o077:
        raise ConfigError(
            f"The key file {path} has mode {stat.S_IMODE(facts.st_mode):04o}; other users can read it.",
            hint=f"Run `chmod 600 {path}`, and replace the key if another user may have read it.",
        )
    try:
        return KeyPair(zmq.curve_public(text), text)
    except (ValueError, zmq.ZMQError) as error:
        raise ConfigError(f"The key file {path} has no valid secret key.") from error


def read_public(path: Path) -> bytes:
    """A public key. ConfigError unless its file belongs to root or this user, and no other user can write it."""
    text, facts = _read(path)
    if facts.st_mode & 0o022:
        raise ConfigError(
            f"The key file {path} has mode {stat.S_IMODE(facts.st_mode):04o}; other users can write it.",
            hint=f"Run `chmod 644 {path}`.",
        )
    return text


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    try:
        # O_NONBLOCK: a FIFO at this path must not block for ever
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(
            f"Cannot read the key file {path}: {error.strerror}.",
            hint="Create a key pair with `qslurm runtimes keygen FILE`.",
        ) from error
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise ConfigError(f"The key file {path} is not a regular file.")
        if facts.st_uid not in {0, os.geteuid()}:
            raise ConfigError(f"The key file {path} belongs to another user (uid {facts.st_uid}).")
        text = os.read(handle, _READ_BYTES).strip()
    finally:
        os.close(handle)
    if not _Z85.fullmatch(text):
        raise ConfigError(f"The key file {path} has no key (one line of 40 characters).")
    return text, facts
