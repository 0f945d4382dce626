"""A lane: memory that one classical and one quantum runtime share, so that circuits and counts pass through no
third process.

The dispatcher makes a lane, sends one end to each side, and takes no part in the traffic. A request is bytes
and a number; the answer is bytes and the same number. A waiting side spins briefly if there are enough cores,
because waking a sleeping core costs more than a whole exchange, and then sleeps on a socket, so that no core is
wasted while the other side computes. A runtime may serve several lanes (lane_set.py).

Neither side trusts the other: lengths are checked before anything is read, data is copied before it is used,
and no call can be made to block (on a socket, unlike an eventfd, each side decides that for each call of its
own).
"""

from __future__ import annotations

import mmap
import os
import platform
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Literal

AREA = 4 * 1024 * 1024
"""Bytes of a request, and of an answer; larger ones go by the dispatcher."""

_PAGE = 4096
SIZE = _PAGE + 2 * AREA

# Header fields, as indices of 8-byte words. The two sides never write to the same cache line.
_REQUEST, _REQUEST_LENGTH, _CLIENT_SLEEPS = 0, 1, 2
_ANSWER, _ANSWER_LENGTH, _RUNTIME_SLEEPS, _CLOSED, _LANES = 16, 17, 18, 19, 20

SPIN_S = 0.0002
"""How long a side spins before it sleeps: a few times what waking up costs (50 to 100 µs, measured)."""

_MISSES = 2  # fruitless spins after which a side sleeps at once ...
_TRY_AGAIN = 64  # ... and tries spinning again every so many waits
_SPINS = 200  # checks between two readings of the clock
_NAP_MS = 20  # a sleeper checks again after this: on x86 a store may pass a load (see `sleep`)
_CORES = len(os.sched_getaffinity(0))

Side = Literal["client", "runtime"]
Ready = Callable[[], bool]


class Lane:
    """One side's view of a lane, made from its memory and its own socket; `close` closes both.

    The client calls `request`, then `wait_answer`. The runtime checks `has_request`, calls `take`, and replies
    with `answer`. Not thread-safe.
    """

    def __init__(self, side: Side, memory: int, wire: int) -> None:
        self._memory, self.wire = memory, wire
        if os.fstat(memory).st_size != SIZE:
            raise ValueError("invalid lane")
        self._map = mmap.mmap(memory, SIZE)
        self._bytes = memoryview(self._map)
        self.words = self._bytes[:_PAGE].cast("Q")
        self._socket = socket.socket(fileno=wire)
        flags = (_CLIENT_SLEEPS, _RUNTIME_SLEEPS)
        self._sleep_flag, self._their_flag = flags if side == "client" else (flags[1], flags[0])
        self._poll = poll_of([self])
        self._spinner = Spinner()
        self.is_closed_by_peer = False
        """Whether the other side has closed its socket, or has ended."""
        self._number = self.words[_REQUEST if side == "client" else _ANSWER]

    def close(self) -> None:
        """Release the memory and the socket; the other side keeps its own view."""
        self.words.release()
        self._bytes.release()
        self._map.close()
        self._socket.close()
        os.close(self._memory)

    # --- the client's ------------------------------------------------------------------------------

    def request(self, data: bytes) -> bool:
        """Write a request; False if the lane is closed, or the request is too large."""
        if self.words[_CLOSED] or len(data) > AREA:
            return False
        self._bytes[_PAGE : _PAGE + len(data)] = data
        self.words[_REQUEST_LENGTH] = len(data)
        self._number += 1
        self.words[_REQUEST] = self._number
        self._wake_peer()
        return True

    def wait_answer(self, timeout_s: float) -> bytes | None:
        """The answer to the last request; None if there is none in time, or the lane was closed before."""
        words, number = self.words, self._number

        def ready() -> bool:
            return words[_ANSWER] == number or words[_CLOSED] != 0

        until = time.perf_counter() + timeout_s
        if not self._spinner.spin(ready, words[_LANES], timeout_s) and not sleep(
            ready, until, [self], self._poll
        ):
            return None
        length = words[_ANSWER_LENGTH]
        if words[_ANSWER] != number or length > AREA:
            return None
        start = _PAGE + AREA
        return bytes(self._bytes[start : start + length])

    @property
    def closed(self) -> bool:
        """Whether the runtime takes no more requests."""
        return self.words[_CLOSED] != 0 or self.is_closed_by_peer

    # --- the runtime's -----------------------------------------------------------------------------

    def set_lane_count(self, lanes: int) -> None:
        """Tell the client how many lanes the runtime serves: with many, spinning would take other jobs' cores."""
        self.words[_LANES] = lanes

    @property
    def has_request(self) -> bool:
        """Whether there is a request that has not been taken."""
        return self.words[_REQUEST] == self._number + 1

    def take(self) -> bytes:
        """Take the request."""
        self._number += 1
        length = self.words[_REQUEST_LENGTH]
        return bytes(self._bytes[_PAGE : _PAGE + min(length, AREA)])

    def answer(self, data: bytes) -> None:
        """Answer the request taken last; at most AREA bytes."""
        start = _PAGE + AREA
        self._bytes[start : start + len(data)] = data
        self.words[_ANSWER_LENGTH] = len(data)
        self.words[_ANSWER] = self._number
        self._wake_peer()

    def mark_closed(self) -> None:
        """Take no more requests; a request that was not taken is not executed, and its client is woken."""
        self.words[_CLOSED] = 1
        self._wake_peer()

    # --- waiting -----------------------------------------------------------------------------------

    def set_asleep(self, asleep: bool) -> None:
        """Set whether this side has to be woken."""
        self.words[self._sleep_flag] = asleep

    def drain(self) -> None:
        """Read the wake-up messages."""
        try:
            self.is_closed_by_peer = not self._socket.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self.is_closed_by_peer = True

    def _wake_peer(self) -> None:
        if self.words[self._their_flag]:
            wake(self._socket)


def wake(wire: socket.socket) -> None:
    """Wake the other side of a lane."""
    try:
        wire.send(b"w", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        return  # it has enough wake-up messages, or has ended


class Spinner:
    """Spins before sleeping, as long as that pays off.

    It does not if there are fewer cores than users of the runtime, if the other side computes for long, or if
    it waits for the very core that this one spins on.
    """

    def __init__(self, cores: int = _CORES) -> None:
        self._cores = cores
        self._misses = 0
        self._waits = 0

    def spin(self, ready: Ready, lanes: int, timeout_s: float) -> bool:
        """Spin, with this number of lanes in use; returns whether `ready` became true."""
        if max(lanes, 1) >= self._cores or not self._is_of_use():
            found = ready()
        elif (found := _spin(ready, min(SPIN_S, timeout_s))) is False:
            self._misses += 1
        if found:
            self._misses = 0
        return found

    def _is_of_use(self) -> bool:
        self._waits += 1
        return self._misses < _MISSES or self._waits % _TRY_AGAIN == 0


def _spin(ready: Ready, spin_s: float) -> bool:
    until = time.perf_counter() + spin_s
    while True:
        for _ in range(_SPINS):
            if ready():
                return True
        if time.perf_counter() > until:
            return False


def poll_of(lanes: Sequence[Lane]) -> select.poll:
    """The poll object for `sleep`."""
    poll = select.poll()
    for lane in lanes:
        poll.register(lane.wire, select.POLLIN)
    return poll


def sleep(ready: Ready, until: float, lanes: Sequence[Lane], poll: select.poll) -> bool:
    """Sleep until woken by one of the lanes; returns whether `ready` became true by then (time.perf_counter's
    seconds).

    Returns early if a lane is closed by its peer. The flag asks for a wake-up; setting it and checking again is
    a race that a processor may let both sides lose, so a sleeper also checks at intervals.
    """
    for lane in lanes:
        lane.set_asleep(True)
    try:
        while not ready():
            left = until - time.perf_counter()
            if left <= 0:
                return False
            woken = {number for number, _ in poll.poll(min(_NAP_MS, left * 1000 + 1))}
            for lane in lanes:
                if lane.wire in woken:
                    lane.drain()
            if woken and any(lane.is_closed_by_peer for lane in lanes):
                return ready()
        return True
    finally:
        for lane in lanes:
            lane.set_asleep(False)


class OwnedLane:
    """A new lane, owned by the dispatcher: the descriptors for both sides.

    Raises OSError if it cannot be made.
    """

    def __init__(self) -> None:
        memory = os.memfd_create("qslurm-lane", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(memory, SIZE)
            _seal(memory)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        except OSError:
            os.close(memory)
            raise
        self._client_socket = theirs
        self.for_client = (memory, theirs.fileno())
        self.for_runtime = (memory, ours.fileno())
        self._view = Lane("runtime", memory, ours.detach())

    def mark_closed(self) -> None:
        """Let the client send no more requests; only while no runtime serves the lane."""
        self._view.mark_closed()

    def wake_runtime(self) -> None:
        """Wake the runtime, so that it checks whether its lease goes on."""
        wake(self._client_socket)

    def close(self) -> None:
        """Close it."""
        self._view.close()
        self._client_socket.close()


def lanes_supported() -> bool:
    """Whether this processor makes stores visible in program order, which lanes rely on."""
    return platform.machine() in {"x86_64", "AMD64"}


def _seal(memory: int) -> None:
    """Fix the size: a side that shrank the memory would end the other with SIGBUS (memfd_create(2))."""
    import fcntl

    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
