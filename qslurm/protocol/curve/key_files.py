"""Key pairs for encrypted connections (CURVE, as libzmq has it), in files of one line.

A secret key's file is its owner's alone; the public half lies beside it, to be given to the other side. Both are
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
_LIMIT = 64  # bytes of a key's file that are looked at


@dataclass(frozen=True)
class KeyPair:
    """Both halves, as Z85; the secret one is in no representation of it."""

    public: bytes
    secret: bytes = field(repr=False)


def make_keys(path: Path) -> KeyPair:
    """Make a pair: the secret key at `path` (0600), the public one beside it, with the suffix `.pub`.

    InvalidInputError if there is a key already, or the files can't be written.
    """
    import zmq

    beside = path.with_suffix(PUBLIC_SUFFIX)
    for file in (path, beside):
        if file.exists():
            raise InvalidInputError(
                f"There is a key already: {file}.", hint="Move it away, or give another name."
            )
    public, secret = zmq.curve_keypair()
    try:
        write_atomically(path, secret + b"\n", mode=0o600)
        write_atomically(beside, public + b"\n", mode=0o644)
    except OSError as error:
        raise InvalidInputError(f"The key can't be written to {path}: {error.strerror}.") from error
    return KeyPair(public, secret)


def read_keys(path: Path) -> KeyPair:
    """The pair whose secret half is in this file.

    ConfigError unless it is root's or ours, and nobody else can read it.
    """
    import zmq

    text, facts = _read(path)
    if facts.st_mode & 0o077:
        raise ConfigError(
            f"The key file {path} has mode {stat.S_IMODE(facts.st_mode):04o}: others may use it.",
            hint=f"Run `chmod 600 {path}`, and make a new key if it was seen.",
        )
    try:
        return KeyPair(zmq.curve_public(text), text)
    except (ValueError, zmq.ZMQError) as error:
        raise ConfigError(f"{path} holds no secret key.") from error


def read_public(path: Path) -> bytes:
    """A public key; ConfigError unless it is root's or ours, and nobody else can change it."""
    text, facts = _read(path)
    if facts.st_mode & 0o022:
        raise ConfigError(
            f"The key file {path} has mode {stat.S_IMODE(facts.st_mode):04o}: others may change it.",
            hint=f"Run `chmod 644 {path}`.",
        )
    return text


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    try:
        # O_NONBLOCK: a FIFO put there must not make anybody wait for ever
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(
            f"The key file {path} can't be read: {error.strerror}.",
            hint="`qslurm runtimes keygen FILE` makes a pair.",
        ) from error
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise ConfigError(f"The key file {path} is no regular file.")
        if facts.st_uid not in {0, os.geteuid()}:
            raise ConfigError(f"The key file {path} belongs to another user (uid {facts.st_uid}).")
        text = os.read(handle, _LIMIT).strip()
    finally:
        os.close(handle)
    if not _Z85.fullmatch(text):
        raise ConfigError(f"{path} holds no key: that is one line of 40 characters.")
    return text, facts
