"""Connects to C2's session server by TLS, through the center's proxy if configured; or to a local session by a Unix
socket.
"""

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
_TCP_TIMEOUT_MS = 10_000

Connect = Callable[[], socket.socket]
"""Opens a connection for SessionHello; raises OSError or UnreachableError."""


class SessionNotOpenError(QslurmError):
    """C2 holds no session for this client: not yet, or no longer."""

    kind = "session"


class SessionEndedError(QslurmError):
    """The session has ended normally."""

    kind = "ended"


class _TlsSocket(ssl.SSLSocket):
    """Closes itself if it was reset before the handshake: until Python 3.12 `wrap_socket` raises and leaves it open."""

    def __del__(self) -> None:
        if self.version() is None:
            self.close()
        super().__del__()  # type: ignore[misc]  # the C type's, which warns about an open socket


@dataclass(frozen=True)
class SessionServerAddress:
    """Address and certificate (PEM) of C2's session server."""

    address: str
    certificate: str
    proxy: str = ""

    def connect(self) -> ssl.SSLSocket:
        """A connection to this server; UnreachableError if another server answers at its address."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the certificate itself is pinned
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
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_TIMEOUT_MS)
            try:
                connection = made.enter_context(context.wrap_socket(raw))
            except ssl.SSLCertVerificationError as error:
                raise _wrong_server(self.address) from error
            if (
                connection.getpeercert(binary_form=True) != pinned
            ):  # OSError if it was reset before the handshake
                raise _wrong_server(self.address)
            made.pop_all()  # the caller closes it
        return connection

    def _socket(self) -> socket.socket:
        if not self.proxy:
            return socket.create_connection(host_and_port(self.address), CONNECT_S)
        parts = urlsplit(self.proxy)
        connection = socket.create_connection((parts.hostname or "", parts.port or 3128), CONNECT_S)
        try:
            connection.sendall(f"CONNECT {self.address} HTTP/1.1\r\nHost: {self.address}\r\n\r\n".encode())
            answer = _head(connection)
        except OSError:
            connection.close()
            raise
        if answer.split(b" ", 2)[1:2] != [b"200"]:
            connection.close()
            status_line = answer.partition(b"\r\n")[0][:80].decode(errors="replace")
            raise UnreachableError(f"The proxy cannot connect to {self.address}: {status_line}.")
        return connection


def connect_unix(path: str) -> socket.socket:
    """A connection to a session shared on this host; PermissionError if it belongs to another user."""
    import os

    connection = connect_unix_socket(path, CONNECT_S)
    if peer_uid(connection) not in {0, os.getuid()}:
        connection.close()
        raise PermissionError(f"{path} belongs to another user")
    return connection


def attach(connection: socket.socket, secret: bytes) -> tuple[Attached, FrameReader]:
    """Attach to the session; C2's description of it, and the reader with any further frames.

    SessionNotOpenError if C2 holds no session for this secret; OSError if the connection breaks.
    """
    connection.settimeout(CONNECT_S)
    connection.sendall(frame(NO_REQUEST, msgspec.msgpack.encode(SessionHello(PROTOCOL, secret))))
    frames = FrameReader(REPLY_LIMIT)
    while (taken := frames.take()) is None:
        piece = connection.recv(_READ)
        if not piece:
            raise ConnectionResetError("it closed the connection")
        frames.feed(piece)
    answer = decode_reply(taken[1])
    if isinstance(answer, Attached):
        return answer, frames
    if isinstance(answer, Refused) and answer.kind == SessionNotOpenError.kind:
        raise SessionNotOpenError(answer.reason)
    raise QslurmError(answer.reason if isinstance(answer, Refused) else "It did not identify itself.")


def _head(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data and len(data) < 8192:
        piece = connection.recv(1)  # byte by byte: TLS data may follow the head
        if not piece:
            raise ConnectionResetError("the proxy closed the connection")
        data += piece
    return data


def _wrong_server(address: str) -> UnreachableError:
    return UnreachableError(
        f"{address} is not this C2's session server.",
        hint="Check address under [sessions] in C2's configuration.",
    )
