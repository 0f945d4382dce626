"""Encrypted and authenticated ZeroMQ, by libzmq's CURVE and an authentication handler (ZAP, ZeroMQ's RFC 27).

Each side knows the other's public key. libzmq asks the handler about each connection before it reads any message, and
attaches the key to each message (`sender_key`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from qslurm.protocol.curve.key_files import KeyPair
from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    import zmq

log = EventLog(__name__)

HANDSHAKE_MS = 5000
"""The time-out of a connection's handshake."""

_LOG_INTERVAL_S = 1.0  # between two log lines about refused connections
_ENDPOINT = "inproc://zeromq.zap.01"
_REQUEST_FRAMES = 7  # version, request, domain, address, identity, mechanism, key

IsAllowed = Callable[[bytes], bool]
"""Whether a public key (Z85) may connect."""


class ZapHandler:
    """The handler for all CURVE sockets of a context. Make it before they are bound.

    Poll `socket`, and call `handle` when it is readable; connections wait for that.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        import zmq

        self._is_allowed: dict[bytes, IsAllowed] = {}
        self._quiet_until = 0.0
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(_ENDPOINT)

    def guard(self, socket: zmq.Socket[bytes], keys: KeyPair, domain: str, is_allowed: IsAllowed) -> None:
        """Make a socket, before it is bound, accept only encrypted connections of allowed keys."""
        self._is_allowed[domain.encode()] = is_allowed
        socket.curve_server = True
        socket.curve_secretkey = keys.secret
        socket.zap_domain = domain.encode()
        socket.zap_enforce_domain = True  # no connection without the handler's reply
        socket.handshake_ivl = HANDSHAKE_MS

    def handle(self) -> None:
        """Reply to libzmq's requests."""
        import zmq

        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.socket.send_multipart(self._reply(frames))

    def close(self) -> None:
        """Close the handler's socket. No further connection is accepted."""
        self.socket.close()

    def _reply(self, frames: list[bytes]) -> list[bytes]:
        request = frames[1] if len(frames) > 1 else b""
        if len(frames) == _REQUEST_FRAMES and frames[5] == b"CURVE":
            import zmq.utils.z85

            key = zmq.utils.z85.encode(frames[6])
            is_allowed = self._is_allowed.get(frames[2])
            if is_allowed is not None and is_allowed(key):
                return [b"1.0", request, b"200", b"OK", key, b""]
            if time.monotonic() >= self._quiet_until:
                self._quiet_until = time.monotonic() + _LOG_INTERVAL_S
                address = frames[3].decode(errors="replace")
                log.warning("connection refused: unknown key", address=address, key=key.decode())
        return [b"1.0", request, b"400", b"Unknown key", b"", b""]


def authenticate_to(socket: zmq.Socket[bytes], keys: KeyPair, server: bytes) -> None:
    """Make a socket, before it is connected, authenticate with `keys` and accept only a server with this public key."""
    socket.curve_publickey = keys.public
    socket.curve_secretkey = keys.secret
    socket.curve_serverkey = server


def sender_key(frame: zmq.Frame) -> bytes:
    """The public key of a message's connection."""
    return str(frame.get("User-Id")).encode()
