"""Which user sent a message.

On C2 MUNGE says so: a credential carries the SHA-256 of its message, so it proves this message only, and munged
refuses to decode it twice. `qslurm run` hands its one connection to the dispatcher, which needs no credential.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Protocol

from qslurm.errors import PermissionDeniedError

if TYPE_CHECKING:
    from qslurm.wire.munge import Libmunge

LIFETIME_S = 60
"""How long a credential is valid."""


class Identity(Protocol):
    """How senders prove their user, and how that is checked."""

    instant: bool
    """Whether `verify` returns without waiting."""

    def sign(self, body: bytes) -> bytes:
        """A credential of this process's user for `body`."""
        ...

    def verify(self, credential: bytes, body: bytes) -> int:
        """The uid of the user who made the credential; PermissionDeniedError if it is not valid for `body`."""
        ...


class SameUser:
    """Every peer is this process's user: the connection was inherited, or no other user can reach the socket."""

    instant = True

    def sign(self, body: bytes) -> bytes:  # noqa: ARG002 - none is needed
        """An empty credential."""
        return b""

    def verify(self, credential: bytes, body: bytes) -> int:  # noqa: ARG002 - none is needed
        """The uid of this process."""
        return os.getuid()


class Munge:
    """MUNGE. `socket` is the path of munged's socket; "" means its default."""

    instant = False

    def __init__(self, socket: str = "", *, timeout_s: float = 5.0) -> None:
        self._socket = socket
        self._timeout_s = timeout_s

    def sign(self, body: bytes) -> bytes:
        """A credential for the user and the body; UnreachableError if munged does not answer."""
        return self._munged().encode(_digest(body), ttl_s=LIFETIME_S)

    def verify(self, credential: bytes, body: bytes) -> int:
        """The sender's uid.

        PermissionDeniedError if the credential is too old, was used before, or is for another body; UnreachableError if
        munged does not answer.
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
        from qslurm.wire.munge import Libmunge  # loads ctypes

        return Libmunge(self._socket, timeout_s=self._timeout_s)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
