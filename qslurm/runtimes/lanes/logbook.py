"""A quantum runtime's logbook: a record of each execution by lane, written before the result is sent.

It is a file that the runtime and its dispatcher both map. A written record is in the kernel's memory, so it
outlives a kill -9 of either; the dispatcher copies the records into the store, many at a time, and a dispatcher
that was killed finds them when it starts again. (A power cut can lose the last moments, as it can in the
store.) The first page holds what the two must know of each other between messages.
"""

from __future__ import annotations

import mmap
import os
import time
import zlib
from collections.abc import Iterator

import msgspec

from qslurm.protocol.messages import Executed

SIZE = 8 * 1024 * 1024
"""Bytes. A lease ends when its logbook has no room for another record."""

MAX_MEMBERS = 16
"""Jobs that may share a lease."""

RECORD_LIMIT = 2 * 1024 * 1024
"""Bytes of a record; executions that may need more do not go by lane."""

_PAGE = 4096
_HEAD = 8  # bytes before each record: its length and its checksum
_END, _STOP, _BUSY_SINCE, _BUSY_SEQ, _LAST, _BUSY_TASK = range(6)  # words of the first page
_ALL = 1 << 63  # in the word _STOP, beside a bit for each member
_DIGEST = slice(64, 128)  # bytes of the first page: the digest of the current execution


class LogbookRecord(msgspec.Struct, frozen=True, array_like=True):
    """One execution: its task, the digest of its request, and its result."""

    task: int
    circuit_sha256: str
    executed: Executed


class Busy(msgspec.Struct, frozen=True):
    """The current execution: its task, number and digest, and how long it has taken."""

    task: int
    seq: int
    circuit_sha256: str
    seconds: float


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[LogbookRecord] = msgspec.msgpack.Decoder(LogbookRecord)


class Logbook:
    """One side's view. The runtime writes; the dispatcher reads, and resets it."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, SIZE)
        self._bytes = memoryview(self._map)
        self._words = self._bytes[:_PAGE].cast("Q")
        self._read = 0

    def close(self) -> None:
        """Release the memory."""
        self._words.release()
        self._bytes.release()
        self._map.close()

    # --- the runtime's -----------------------------------------------------------------------------

    def begin(self, task: int, seq: int, circuit_sha256: str) -> None:
        """An execution begins."""
        self._bytes[_DIGEST] = circuit_sha256.encode()
        self._words[_BUSY_TASK] = task
        self._words[_BUSY_SEQ] = seq
        self._words[_BUSY_SINCE] = time.monotonic_ns()

    def append(self, record: LogbookRecord) -> None:
        """An execution has ended. ValueError if the record does not fit: check `has_room` first."""
        data = _encoder.encode(record)
        end = self._words[_END]
        start = _PAGE + end
        if start + _HEAD + len(data) > SIZE:
            raise ValueError("the logbook is full")
        self._bytes[start : start + 4] = len(data).to_bytes(4, "little")
        self._bytes[start + 4 : start + _HEAD] = zlib.crc32(data).to_bytes(4, "little")
        self._bytes[start + _HEAD : start + _HEAD + len(data)] = data
        self._words[_END] = end + _HEAD + len(data)  # the record is valid from here on
        self._words[_LAST] = time.monotonic_ns()
        self._words[_BUSY_SINCE] = 0

    def give_back(self, *, begun: bool) -> None:
        """The current execution has no outcome; one that was `begun` counts as lost with its runtime."""
        if not begun:
            self._words[_BUSY_SINCE] = 0

    @property
    def has_room(self) -> bool:
        """Whether a record of any size fits."""
        return bool(_PAGE + self._words[_END] + _HEAD + RECORD_LIMIT <= SIZE)

    @property
    def stop_word(self) -> int:
        """The dispatcher's requests; 0 for none. See `stopped` and `withdrawn`."""
        return self._words[_STOP]

    @property
    def stopped(self) -> bool:
        """Whether the dispatcher asks for the lease back."""
        return self._words[_STOP] & _ALL != 0

    def withdrawn(self, member: int) -> bool:
        """Whether this member may not continue."""
        return self._words[_STOP] & (1 << member) != 0

    # --- the dispatcher's --------------------------------------------------------------------------

    def renew(self) -> None:
        """Reset it before a lease: everything has been read."""
        self._read = 0
        self._words[_END] = self._words[_STOP] = self._words[_BUSY_SINCE] = 0
        self._words[_LAST] = time.monotonic_ns()

    def stop(self) -> None:
        """Ask for the lease back; the runtime returns it between two circuits."""
        self._words[_STOP] |= _ALL

    def withdraw(self, member: int) -> None:
        """Let this member execute nothing more; its current execution goes on."""
        self._words[_STOP] |= 1 << member

    def busy(self) -> Busy | None:
        """The current execution; None between two."""
        since, task, seq = self._words[_BUSY_SINCE], self._words[_BUSY_TASK], self._words[_BUSY_SEQ]
        if not since:
            return None
        digest = bytes(self._bytes[_DIGEST]).decode(errors="replace")
        return Busy(task, seq, digest, (time.monotonic_ns() - since) / 1e9)

    def idle_s(self) -> float:
        """Seconds since the last execution ended, 0 during one."""
        return 0.0 if self._words[_BUSY_SINCE] else (time.monotonic_ns() - self._words[_LAST]) / 1e9

    def read(self) -> Iterator[LogbookRecord]:
        """The records written since the last call."""
        end = min(self._words[_END], SIZE - _PAGE)
        while self._read + _HEAD <= end:
            start = _PAGE + self._read
            length = int.from_bytes(self._bytes[start : start + 4], "little")
            data = bytes(self._bytes[start + _HEAD : start + _HEAD + length])
            checksum = int.from_bytes(self._bytes[start + 4 : start + _HEAD], "little")
            if len(data) != length or zlib.crc32(data) != checksum:
                return  # corrupt: nothing after it can be trusted either
            self._read += _HEAD + length
            try:
                record = _decoder.decode(data)
            except msgspec.DecodeError:
                return
            yield record


SUFFIX = ".logbook"
"""Suffix of logbook files."""


def open_logbook(path: str | os.PathLike[str]) -> int:
    """The descriptor of a logbook at this path, created if missing; OSError if the disk is full."""
    return _with_room(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def memory_logbook() -> int:
    """The descriptor of a logbook in memory."""
    return _with_room(os.memfd_create("qslurm-logbook", os.MFD_CLOEXEC))


def _with_room(descriptor: int) -> int:
    try:
        os.posix_fallocate(descriptor, 0, SIZE)  # with a full disk, a hole would mean SIGBUS later
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
