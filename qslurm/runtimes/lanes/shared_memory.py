"""A lane: memory that one classical and one quantum runtime share, so that a circuit and its counts need no third.

The dispatcher makes a lane, hands one end to each side, and takes no part in what goes over it. A request is bytes and
a number; the answer is bytes and the same number. Whoever waits spins for a moment if there are cores for it, because
waking a sleeping core costs more than a whole exchange, and then sleeps on a socket, so that nobody burns a core while
the other computes. A runtime may serve several lanes (served.py).

Nothing in here trusts the other side: lengths are bounded before anything is read, what is read is a copy, and no call
can be made to block (a socket, unlike an eventfd, lets each side say so for each call of its own).
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
"""Bytes of a request, and of an answer; what is larger goes by the dispatcher."""

_PAGE = 4096
SIZE = _PAGE + 2 * AREA

# Places in the header, in words of 8 bytes. What one side writes never shares a cache line with what the other does.
_REQUEST, _REQUEST_LENGTH, _CLIENT_SLEEPS = 0, 1, 2
_ANSWER, _ANSWER_LENGTH, _RUNTIME_SLEEPS, _CLOSED, _LANES = 16, 17, 18, 19, 20

SPIN_S = 0.0002
"""How long a side spins before it sleeps: a few times what waking up costs (50 to 100 µs, measured)."""

_MISSES = 2  # spins in vain after which a side sleeps at once ...
_TRY_AGAIN = 64  # ... and so many waits later looks whether that has changed
_SPINS = 200  # looks between two looks at the clock
_NAP_MS = 20  # a sleeper looks again after this even unwoken: x86 may let a store pass a load (see `sleep`)
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
        """Whether nobody holds the other side any more, or who does has shut it down."""
        self._number = self.words[_REQUEST if side == "client" else _ANSWER]

    def close(self) -> None:
        """Give the memory back; the other side keeps its own view."""
        self.words.release()
        self._bytes.release()
        self._map.close()
        self._socket.close()
        os.close(self._memory)

    # --- the client's ------------------------------------------------------------------------------

    def request(self, data: bytes) -> bool:
        """Put a request; False if the lane is closed, or the request is too large for it."""
        if self.words[_CLOSED] or len(data) > AREA:
            return False
        self._bytes[_PAGE : _PAGE + len(data)] = data
        self.words[_REQUEST_LENGTH] = len(data)
        self._number += 1
        self.words[_REQUEST] = self._number
        self._wake_peer()
        return True

    def wait_answer(self, timeout_s: float) -> bytes | None:
        """The answer to the last request; None if there is none in time, or the lane was closed before it."""
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
        """Tell the client how many lanes the runtime serves: if they are many, spinning takes others' cores."""
        self.words[_LANES] = lanes

    @property
    def has_request(self) -> bool:
        """Whether there is a request that has not been taken."""
        return self.words[_REQUEST] == self._number + 1

    def take(self) -> bytes:
        """The request that is there."""
        self._number += 1
        length = self.words[_REQUEST_LENGTH]
        return bytes(self._bytes[_PAGE : _PAGE + min(length, AREA)])

    def answer(self, data: bytes) -> None:
        """Answer the request that was taken last; at most AREA bytes."""
        start = _PAGE + AREA
        self._bytes[start : start + len(data)] = data
        self.words[_ANSWER_LENGTH] = len(data)
        self.words[_ANSWER] = self._number
        self._wake_peer()

    def mark_closed(self) -> None:
        """Take no more requests; one that was put and not taken is not executed, and its client told so."""
        self.words[_CLOSED] = 1
        self._wake_peer()

    # --- waiting -----------------------------------------------------------------------------------

    def set_asleep(self, asleep: bool) -> None:
        """Whether this side has to be woken."""
        self.words[self._sleep_flag] = asleep

    def drain(self) -> None:
        """Forget what this side was woken with."""
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
        return  # it has been woken more than enough, or is gone


class Spinner:
    """Looks again and again for a moment, as long as that is of use.

    It is of none if there are no cores for all who use the runtime, if the other side computes, or if it waits for
    the very core that this one spins on.
    """

    def __init__(self) -> None:
        self._misses = 0
        self._waits = 0

    def spin(self, ready: Ready, lanes: int, timeout_s: float) -> bool:
        """Whether it became ready, while so many lanes are in use."""
        if max(lanes, 1) >= _CORES or not self._is_of_use():
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
    """What `sleep` sleeps on."""
    poll = select.poll()
    for lane in lanes:
        poll.register(lane.wire, select.POLLIN)
    return poll


def sleep(ready: Ready, until: float, lanes: Sequence[Lane], poll: select.poll) -> bool:
    """Sleep until woken by one of these lanes; whether it became ready by then (time.perf_counter's seconds).

    It returns earlier if one of the lanes has hung up. The flag says that waking is needed; setting it and looking
    again is a race that a processor may let both sides lose, so a sleeper also looks by itself.
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
    """A new lane, held by the dispatcher: what each side needs to have its end, and the means to close it.

    OSError if none can be made.
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
        self._clients_end = theirs
        self.for_client = (memory, theirs.fileno())
        self.for_runtime = (memory, ours.fileno())
        self._view = Lane("runtime", memory, ours.detach())

    def mark_closed(self) -> None:
        """Let the client put no more requests, and wait for nothing; only while no runtime serves it."""
        self._view.mark_closed()

    def wake_runtime(self) -> None:
        """Wake the runtime, so that it looks whether it is still wanted."""
        wake(self._clients_end)

    def close(self) -> None:
        """Let go of it."""
        self._view.close()
        self._clients_end.close()


def lanes_work_here() -> bool:
    """Whether this processor shows stores in the order they were made, which is all that orders a lane."""
    return platform.machine() in {"x86_64", "AMD64"}


def _seal(memory: int) -> None:
    """Fix the size: a side that shrank the memory would end the other with SIGBUS (memfd_create(2))."""
    import fcntl

    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
