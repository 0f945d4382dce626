"""The way to a session's door: by TCP and TLS, through the center's proxy if it has one; on one host a Unix socket."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from qslurm.errors import QslurmError, UnreachableError
from qslurm.protocol.dispatcher_frames import decode_reply
from qslurm.protocol.messages import Attached, Refused
from qslurm.protocol.session_frames import (
    PROTOCOL,
    REPLY_LIMIT,
    SessionHello,
    host_and_port,
)
from qslurm.wire.frames import NO_REQUEST, FrameReader, frame
from qslurm.wire.peer import peer_uid
from qslurm.wire.unix_socket import connect_unix_socket

CONNECT_S = 10.0
"""Time-out in seconds of connecting, the handshake, and the answer to SessionHello."""

_READ = 256 * 1024
_DEAD_MS = 10_000

Connect = Callable[[], socket.socket]
"""Opens a connection for SessionHello; raises OSError or UnreachableError."""


class SessionNotOpenError(QslurmError):
    """C2 holds no session for this client, not yet or not any more."""

    kind = "session"


class SessionEndedError(QslurmError):
    """The session has ended as it should."""

    kind = "ended"


class _TlsSocket(ssl.SSLSocket):
    """One that is reset before its handshake is closed: until Python 3.12 `wrap_socket` raises and leaves it open."""

    def __del__(self) -> None:
        if self.version() is None:
            self.close()
        super().__del__()  # type: ignore[misc]  # the C type's, which tells of one that was left open


@dataclass(frozen=True)
class SessionServerAddress:
    """Address and certificate (PEM) of C2's session server."""

    address: str
    certificate: str
    proxy: str = ""

    def connect(self) -> ssl.SSLSocket:
        """A connection to this door and to no other. UnreachableError says what stands there instead."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # it is known by the certificate itself
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(cadata=self.certificate)
            pinned = ssl.PEM_cert_to_DER_cert(self.certificate)
        except (ValueError, ssl.SSLError) as error:
            raise UnreachableError("C2's job manager provides no certificate for sessions.") from error
        context.sslsocket_class = _TlsSocket
        with ExitStack() as made:
            raw = made.enter_context(self._socket())
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_MS)
            try:
                link = made.enter_context(context.wrap_socket(raw))
            except ssl.SSLCertVerificationError as error:
                raise _other(self.address) from error
            if link.getpeercert(binary_form=True) != pinned:  # OSError if it was reset before the handshake
                raise _other(self.address)
            made.pop_all()  # it is the caller's from now on
        return link

    def _socket(self) -> socket.socket:
        if not self.proxy:
            return socket.create_connection(host_and_port(self.address), CONNECT_S)
        parts = urlsplit(self.proxy)
        link = socket.create_connection((parts.hostname or "", parts.port or 3128), CONNECT_S)
        try:
            link.sendall(f"CONNECT {self.address} HTTP/1.1\r\nHost: {self.address}\r\n\r\n".encode())
            answer = _head(link)
        except OSError:
            link.close()
            raise
        if answer.split(b" ", 2)[1:2] != [b"200"]:
            link.close()
            status_line = answer.partition(b"\r\n")[0][:80].decode(errors="replace")
            raise UnreachableError(f"The proxy cannot connect to {self.address}: {status_line}.")
        return link


def connect_unix(path: str) -> socket.socket:
    """A connection to who holds a session on this host; PermissionError if that is another user."""
    import os

    link = connect_unix_socket(path, CONNECT_S)
    if peer_uid(link) not in {0, os.getuid()}:
        link.close()
        raise PermissionError(f"{path} belongs to another user")
    return link


def attach(link: socket.socket, secret: bytes) -> tuple[Attached, FrameReader]:
    """Say hello; what C2 says of the session, and what has come behind that.

    SessionNotOpenError if no session is open for this secret; OSError if the link breaks.
    """
    link.settimeout(CONNECT_S)
    link.sendall(frame(NO_REQUEST, msgspec.msgpack.encode(SessionHello(PROTOCOL, secret))))
    frames = FrameReader(REPLY_LIMIT)
    while (taken := frames.take()) is None:
        piece = link.recv(_READ)
        if not piece:
            raise ConnectionResetError("it closed the connection")
        frames.feed(piece)
    answer = decode_reply(taken[1])
    if isinstance(answer, Attached):
        return answer, frames
    if isinstance(answer, Refused) and answer.kind == SessionNotOpenError.kind:
        raise SessionNotOpenError(answer.reason)
    raise QslurmError(answer.reason if isinstance(answer, Refused) else "It did not identify itself.")


def _head(link: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data and len(data) < 8192:
        piece = link.recv(1)  # nothing behind the head may be taken: it is TLS
        if not piece:
            raise ConnectionResetError("the proxy closed the connection")
        data += piece
    return data


def _other(address: str) -> UnreachableError:
    return UnreachableError(
        f"{address} is not this C2's session server.",
        hint="Check address under [sessions] in C2's configuration.",
    )
