"""A quantum runtime's logbook: what it has executed by lane, written before anybody is told.

It is a file that the runtime and its dispatcher both map. A record is in the kernel's memory once it is written, so
it outlives a kill -9 of either of them; the dispatcher takes the records over into the store, many at a time, and a
dispatcher that was killed finds them when it starts again. (A power cut can lose the last moments, as it can in the
store.) The first page is for what the two have to know of each other while no message passes between them.
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
"""Bytes of a record; what may give more is not executed by lane."""

_PAGE = 4096
_HEAD = 8  # bytes before each record: its length and its checksum
_END, _STOP, _BUSY_SINCE, _BUSY_SEQ, _LAST, _BUSY_TASK = range(6)  # words of the first page
_ALL = 1 << 63  # in the word _STOP, beside a bit for each seat
_DIGEST = slice(64, 128)  # bytes of the first page: what the execution under way was asked for


class LogbookRecord(msgspec.Struct, frozen=True, array_like=True):
    """One execution: whose it was, what was asked for (as a digest), and what came out."""

    task: int
    circuit_sha256: str
    executed: Executed


class Busy(msgspec.Struct, frozen=True):
    """An execution under way: its task, its number, its digest, and how long it has taken."""

    task: int
    seq: int
    circuit_sha256: str
    seconds: float


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[LogbookRecord] = msgspec.msgpack.Decoder(LogbookRecord)


class Logbook:
    """The view of one of the two. The runtime writes, the dispatcher reads and starts it anew."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, SIZE)
        self._bytes = memoryview(self._map)
        self._words = self._bytes[:_PAGE].cast("Q")
        self._read = 0

    def close(self) -> None:
        """Give the memory back."""
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
        """An execution is over. ValueError if there is no room to say so: ask `has_room` first."""
        data = _encoder.encode(record)
        end = self._words[_END]
        start = _PAGE + end
        if start + _HEAD + len(data) > SIZE:
            raise ValueError("the logbook is full")
        self._bytes[start : start + 4] = len(data).to_bytes(4, "little")
        self._bytes[start + 4 : start + _HEAD] = zlib.crc32(data).to_bytes(4, "little")
        self._bytes[start + _HEAD : start + _HEAD + len(data)] = data
        self._words[_END] = end + _HEAD + len(data)  # only now it counts
        self._words[_LAST] = time.monotonic_ns()
        self._words[_BUSY_SINCE] = 0

    def give_back(self, *, begun: bool) -> None:
        """The execution under way has no outcome; one that was `begun` counts as lost with its runtime."""
        if not begun:
            self._words[_BUSY_SINCE] = 0

    @property
    def has_room(self) -> bool:
        """Whether another record fits, whatever it says."""
        return bool(_PAGE + self._words[_END] + _HEAD + RECORD_LIMIT <= SIZE)

    @property
    def stop_word(self) -> int:
        """What the dispatcher wants back: 0 for nothing. See `stopped` and `withdrawn`."""
        return self._words[_STOP]

    @property
    def stopped(self) -> bool:
        """Whether the dispatcher wants the lease back."""
        return self._words[_STOP] & _ALL != 0

    def withdrawn(self, member: int) -> bool:
        """Whether the job in this seat may not go on."""
        return self._words[_STOP] & (1 << member) != 0

    # --- the dispatcher's --------------------------------------------------------------------------

    def renew(self) -> None:
        """Start anew, before a lease: everything has been read."""
        self._read = 0
        self._words[_END] = self._words[_STOP] = self._words[_BUSY_SINCE] = 0
        self._words[_LAST] = time.monotonic_ns()

    def stop(self) -> None:
        """Ask for the lease back; the runtime gives it between two circuits."""
        self._words[_STOP] |= _ALL

    def withdraw(self, member: int) -> None:
        """Let the job in this seat execute nothing more; what it is executing goes on."""
        self._words[_STOP] |= 1 << member

    def busy(self) -> Busy | None:
        """The execution under way; None between two."""
        since, task, seq = self._words[_BUSY_SINCE], self._words[_BUSY_TASK], self._words[_BUSY_SEQ]
        if not since:
            return None
        digest = bytes(self._bytes[_DIGEST]).decode(errors="replace")
        return Busy(task, seq, digest, (time.monotonic_ns() - since) / 1e9)

    def idle_s(self) -> float:
        """Seconds since the last execution was over, 0 while one is under way."""
        return 0.0 if self._words[_BUSY_SINCE] else (time.monotonic_ns() - self._words[_LAST]) / 1e9

    def read(self) -> Iterator[LogbookRecord]:
        """The records that have been written since the last time."""
        end = min(self._words[_END], SIZE - _PAGE)
        while self._read + _HEAD <= end:
            start = _PAGE + self._read
            length = int.from_bytes(self._bytes[start : start + 4], "little")
            data = bytes(self._bytes[start + _HEAD : start + _HEAD + length])
            checksum = int.from_bytes(self._bytes[start + 4 : start + _HEAD], "little")
            if len(data) != length or zlib.crc32(data) != checksum:
                return  # not by us: nothing after it can be trusted either
            self._read += _HEAD + length
            try:
                record = _decoder.decode(data)
            except msgspec.DecodeError:
                return
            yield record


SUFFIX = ".logbook"
"""How the names of logbooks end."""


def open_logbook(path: str | os.PathLike[str]) -> int:
    """The descriptor of a logbook at this path, made if it is not there; OSError if there is no room for it."""
    return _with_room(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def memory_logbook() -> int:
    """The descriptor of a logbook that goes with its processes."""
    return _with_room(os.memfd_create("qslurm-logbook", os.MFD_CLOEXEC))


def _with_room(descriptor: int) -> int:
    try:
        os.posix_fallocate(
            descriptor, 0, SIZE
        )  # a hole that the disk has no room for would be a SIGBUS later
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
