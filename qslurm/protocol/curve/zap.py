"""Encrypted, authenticated ZeroMQ: libzmq's CURVE, and the question who may connect (ZAP, ZeroMQ's RFC 27).

Both sides know each other by public key. libzmq asks the handler about each connection before anything else is
taken from it, and notes with each message whose key it came by (`sender`).
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
"""Who has not proven itself by then is disconnected."""

_WORD_S = 1.0  # between two words in the log about those who were not let in
_ENDPOINT = "inproc://zeromq.zap.01"
_REQUEST_FRAMES = 7  # version, request, domain, address, identity, mechanism, key

Admits = Callable[[bytes], bool]
"""Whether a public key (Z85) may connect."""


class Zap:
    """Answers for all CURVE sockets of a context; there is one, made before they are bound.

    Poll `ear`, and call `hear` when something is there: until then whoever connects has to wait.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        import zmq

        self._admits: dict[bytes, Admits] = {}
        self._quiet_until = 0.0
        self.ear = context.socket(zmq.REP)
        self.ear.linger = 0
        self.ear.bind(_ENDPOINT)

    def guard(self, socket: zmq.Socket[bytes], keys: KeyPair, domain: str, admits: Admits) -> None:
        """Let a socket, which is not bound yet, take only encrypted connections of keys that are admitted."""
        self._admits[domain.encode()] = admits
        socket.curve_server = True
        socket.curve_secretkey = keys.secret
        socket.zap_domain = domain.encode()
        socket.zap_enforce_domain = True  # without an answer nobody is let in
        socket.handshake_ivl = HANDSHAKE_MS

    def hear(self) -> None:
        """Answer what has been asked."""
        import zmq

        while True:
            try:
                frames = self.ear.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.ear.send_multipart(self._answer(frames))

    def close(self) -> None:
        """Nobody is let in any more."""
        self.ear.close()

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        request = frames[1] if len(frames) > 1 else b""
        if len(frames) == _REQUEST_FRAMES and frames[5] == b"CURVE":
            import zmq.utils.z85

            key = zmq.utils.z85.encode(frames[6])
            admits = self._admits.get(frames[2])
            if admits is not None and admits(key):
                return [b"1.0", request, b"200", b"OK", key, b""]
            if time.monotonic() >= self._quiet_until:
                self._quiet_until = time.monotonic() + _WORD_S
                address = frames[3].decode(errors="replace")
                log.warning("connection refused: unknown key", address=address, key=key.decode())
        return [b"1.0", request, b"400", b"Not known here", b"", b""]


def connect(socket: zmq.Socket[bytes], keys: KeyPair, server: bytes) -> None:
    """Let a socket, which is not connected yet, be `keys` and talk to nobody but the server with that public key."""
    socket.curve_publickey = keys.public
    socket.curve_secretkey = keys.secret
    socket.curve_serverkey = server


def sender(frame: zmq.Frame) -> bytes:
    """The public key by whose connection a message came."""
    return str(frame.get("User-Id")).encode()
