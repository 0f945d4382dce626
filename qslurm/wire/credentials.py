"""Who is asking? Three ways to know, chosen when a client or a dispatcher is made.

On C2 it is MUNGE: the credential carries the SHA-256 of the message, so it proves this message only, and
munged itself refuses to decode it a second time. A dispatcher that serves one user alone listens in a folder that
nobody else can enter, or has been given its one connection (`qslurm run`), and needs no credential.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from qslurm.errors import ConfigError, PermissionDeniedError

if TYPE_CHECKING:
    from qslurm.wire.munge import Libmunge

LIFETIME_S = 60
"""How long after it was made a credential is taken; also what is asked of munged as its time to live."""


class Identity(Protocol):
    """How senders prove who they are, and how that is checked."""

    instant: bool
    """Whether `verify` never waits for anything."""

    def sign(self, body: bytes) -> bytes:
        """A credential of this process's user for this body."""
        ...

    def verify(self, credential: bytes, body: bytes) -> int:
        """The uid of whoever made the credential for this body; PermissionDeniedError otherwise."""
        ...


class OwnConnection:
    """Whoever has the connection is this process's user: it was inherited."""

    instant = True

    def sign(self, body: bytes) -> bytes:  # noqa: ARG002 - the connection says who it is
        """Nothing."""
        return b""

    def verify(self, credential: bytes, body: bytes) -> int:  # noqa: ARG002 - the connection says who it is
        """The own uid."""
        return os.getuid()


class OwnFolder(OwnConnection):
    """Whoever can reach the socket is this process's user: its folder is that user's and closed to others."""

    def __init__(self, folder: Path) -> None:
        facts = folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            raise ConfigError(
                f"{folder} must be a folder of this user's that others can't enter (mode 0700)."
            )


class Munge:
    """MUNGE; `socket` is munged's ("" for its default)."""

    instant = False

    def __init__(self, socket: str = "", *, timeout_s: float = 5.0) -> None:
        self._socket = socket
        self._timeout_s = timeout_s

    def sign(self, body: bytes) -> bytes:
        """A credential that proves the user and the body; UnreachableError if munged gives none."""
        return self._munged().encode(_digest(body), ttl_s=LIFETIME_S)

    def verify(self, credential: bytes, body: bytes) -> int:
        """The sender's uid, if the credential is fresh, not used before, and made for this very body.

        UnreachableError if munged does not answer.
        """
        if not credential.startswith(b"MUNGE:"):
            raise PermissionDeniedError("The message came without a MUNGE credential.")
        decoded = self._munged().decode(credential)
        if abs(decoded.age_s) > LIFETIME_S:
            raise PermissionDeniedError(
                f"The MUNGE credential is {decoded.age_s} s old; {LIFETIME_S} s are allowed."
            )
        if decoded.payload != _digest(body):
            raise PermissionDeniedError("The MUNGE credential was made for another message.")
        return decoded.uid

    def _munged(self) -> Libmunge:
        from qslurm.wire.munge import Libmunge  # ctypes, which who needs no credential does without

        return Libmunge(self._socket, timeout_s=self._timeout_s)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
