"""ZeroMQ's wire (ZMTP 3, RFC 23) over a Unix socket: NULL mechanism, with a limit for everything.

libzmq bounds the size of a frame and not of a message, takes any number of frames, and lets who connects say nothing.
For a REQ or a DEALER, of libzmq or of ours, the dispatcher is a ROUTER.
"""

from __future__ import annotations

from collections.abc import Sequence

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)

_COMMAND_LIMIT = 512
_MORE, _LONG, _COMMAND = 1, 2, 4
_SIGNATURE_END = 10
_SIZE = len(GREETING)


def ready(kind: bytes) -> bytes:
    """The command that ends a handshake, as it travels: this side is a socket of that kind."""
    command = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind + b"\x08Identity" + bytes(4)
    return bytes((_COMMAND, len(command))) + command


class WireError(Exception):
    """The other side does not keep to the rules: its connection has to be ended."""


class Wire:
    """What comes from one connection, taken apart. `reply` collects what has to be sent without being asked.

    A frame has up to `limit` bytes, a message up to `slack` bytes more and up to `frames` frames. `peers` are the kinds
    of sockets that may be at the other end.
    """

    def __init__(
        self, *, limit: int, slack: int, frames: int, peers: Sequence[bytes] = (b"REQ", b"DEALER")
    ) -> None:
        self.reply = bytearray(GREETING)
        self.ready = False
        self._greeted = False
        self._limit = limit
        self._total = limit + slack
        self._most = frames
        self._peers = peers
        self._data = bytearray()
        self._frames: list[bytes] = []
        self._taken = 0  # bytes in these frames

    def __len__(self) -> int:
        """Bytes that are kept of it."""
        return len(self._data) + self._taken

    def feed(self, data: bytes) -> None:
        """These bytes have come."""
        self._data += data

    def take(self) -> list[bytes] | None:
        """The next message; None if there is none yet. WireError if there never will be one."""
        if not self._greeted and not self._greet():
            return None
        while (head := self._head()) is not None:
            flags, start, size = head
            if len(self._data) < start + size:
                return None
            body = bytes(self._data[start : start + size])
            del self._data[: start + size]
            if flags & _COMMAND:
                self._obey(body)
                continue
            if not self.ready:
                raise WireError("a message before the handshake")
            self._frames.append(body)
            self._taken += size
            if not flags & _MORE:
                message, self._frames, self._taken = self._frames, [], 0
                return message
        return None

    def _greet(self) -> bool:
        data = self._data
        if (data and data[0] != 0xFF) or (len(data) >= _SIGNATURE_END and not data[9] & 1):
            raise WireError("no ZeroMQ")
        if len(data) < _SIZE:
            return False
        if data[10] < 3 or bytes(data[12:32]).rstrip(b"\0") != b"NULL":
            raise WireError("another version or mechanism of ZeroMQ")
        del data[:_SIZE]
        self._greeted = True
        self.reply += ready(b"ROUTER")
        return True

    def _head(self) -> tuple[int, int, int] | None:
        """Flags of the next frame, where its body begins, and its size; all limits are looked at here."""
        data = self._data
        if len(data) < 2:
            return None
        flags = data[0]
        if flags > _MORE | _LONG | _COMMAND:
            raise WireError("rubbish")
        start, size = 2, data[1]
        if flags & _LONG:
            if len(data) < 9:
                return None
            start, size = 9, int.from_bytes(data[1:9], "big")
        if flags & _COMMAND:
            if size > _COMMAND_LIMIT:
                raise WireError("a command that is too long")
        elif size > self._limit or self._taken + size > self._total or len(self._frames) >= self._most:
            raise WireError("a message that is too long")
        return flags, start, size

    def _obey(self, command: bytes) -> None:
        name, rest = (
            command[1 : 1 + command[0]] if command else b"",
            command[1 + command[0] :] if command else b"",
        )
        if name == b"READY":
            if _property(rest, b"socket-type") not in self._peers:
                raise WireError("a socket of another type")
            self.ready = True
        elif name == b"PING":
            pong = b"\x04PONG" + rest[2:18]
            self.reply += bytes((_COMMAND, len(pong))) + pong
        elif name == b"ERROR":
            raise WireError("it complains")


def pack(frames: Sequence[bytes]) -> bytes:
    """A message as it travels."""
    parts = []
    for number, frame in enumerate(frames, 1):
        flags, size = _MORE if number < len(frames) else 0, len(frame)
        head = bytes((flags, size)) if size < 256 else bytes((flags | _LONG,)) + size.to_bytes(8, "big")
        parts += [head, frame]
    return b"".join(parts)


def _property(data: bytes, wanted: bytes) -> bytes:
    """A property of a READY command."""
    while data:
        end = 1 + data[0]
        size = int.from_bytes(data[end : end + 4], "big")
        if data[1:end].lower() == wanted:
            return data[end + 4 : end + 4 + size]
        data = data[end + 4 + size :]
    return b""
