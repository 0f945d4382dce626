"""The door's TLS: how it is known, where it listens, and one connection, which does not block."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from qslurm.c2.dispatcher.listeners.send_buffer import SendBuffer
from qslurm.errors import QslurmError
from qslurm.protocol.session_frames import host_and_port
from qslurm.protocol.tls_certificate import certificate_of, have_certificate
from qslurm.wire.frames import FrameReader

_RECORD = 64 * 1024


def server_context(key: Path) -> ssl.SSLContext:
    """How this side is known: by a key and its certificate, which are made if there are none."""
    have_certificate(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.load_cert_chain(certificate_of(key), key)
    return context


def listen_at(place: str) -> socket.socket:
    """A socket that listens at ADDRESS:PORT. QslurmError if that can't be."""
    host, port = host_and_port(place)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise QslurmError(
            f"[sessions] listen: {place} can't be listened at: {error.strerror}.",
            hint="It is ADDRESS:PORT, with an address of this host and a port that nobody has.",
        ) from error
    listener.setblocking(False)
    return listener


class TlsConnection:
    """The server's side of a connection. `data` has come and was not taken; `came` counts bytes as they travel."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, *, limit: int) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.data = FrameReader(limit)
        self.came = 0
        self.unsent = SendBuffer(connection)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._greeted = False

    def receive(self, most: int) -> bytes:
        """What has come, encrypted; nothing if the other side has hung up. BlockingIOError if nothing is there."""
        try:
            data = self.socket.recv(most)
        except BlockingIOError:
            raise
        except OSError:
            data = b""
        self.came += len(data)
        return data

    def decrypt(self, data: bytes) -> bytes:
        """Take in what was received: the answer is what the handshake has to say. ssl.SSLError if it is no TLS."""
        self._incoming.write(data)
        try:
            if not self._greeted:
                self._tls.do_handshake()
                self._greeted = True
            while piece := self._tls.read(_RECORD):
                self.data.feed(piece)
        except ssl.SSLWantReadError:
            pass  # that was all
        return self._outgoing.read()

    def encrypt(self, data: bytes) -> bytes:
        """What has to be sent so that the other side reads this."""
        self._tls.write(data)
        return self._outgoing.read()
