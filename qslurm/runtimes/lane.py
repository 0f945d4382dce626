"""A lane: memory that one classical and one quantum runtime share, so that a circuit and its counts need no third.

The dispatcher makes a lane, hands one end to each side, and takes no part in what goes over it. A request is bytes and
a number; the answer is bytes and the same number. Whoever waits spins for a moment, because waking a sleeping core
costs more than a whole exchange, and then sleeps on an eventfd, so that nobody burns a core while the other computes.

Nothing in here trusts the other side: lengths are bounded before anything is read, and what is read is a copy.
"""

from __future__ import annotations

import mmap
import os
import platform
import select
import time
from collections.abc import Callable
from typing import Literal

AREA = 4 * 1024 * 1024
"""Bytes of a request, and of an answer; what is larger goes by the dispatcher."""

_PAGE = 4096
SIZE = _PAGE + 2 * AREA

# Places in the header, in words of 8 bytes. What one side writes never shares a cache line with what the other does.
_REQUEST, _REQUEST_LENGTH, _CLIENT_SLEEPS, _CLIENT_GONE = 0, 1, 2, 3
_ANSWER, _ANSWER_LENGTH, _RUNTIME_SLEEPS, _CLOSED = 16, 17, 18, 19

SPIN_S = 0.0002
"""How long a side spins before it sleeps: a few times what waking up costs (50 to 100 µs, measured)."""

_SPINS = 200  # looks between two looks at the clock
_NAP_MS = 20  # a sleeper looks again after this even unwoken: x86 may let a store pass a load (see `_rest`)

Side = Literal["client", "runtime"]


class Lane:
    """One side's view of a lane, made from its three descriptors, which it closes when it is closed.

    The client asks with `request`, then waits with `wait_answer`; the runtime waits with `wait_request` and
    answers with `answer`. Thread-confined.
    """

    def __init__(self, side: Side, memory: int, wake_client: int, wake_runtime: int) -> None:
        self._descriptors = (memory, wake_client, wake_runtime)
        if os.fstat(memory).st_size != SIZE:
            raise ValueError("this is no lane")
        self._map = mmap.mmap(memory, SIZE)
        self._bytes = memoryview(self._map)
        self._words = self._bytes[:_PAGE].cast("Q")
        self._mine, self._theirs = (
            (wake_client, wake_runtime) if side == "client" else (wake_runtime, wake_client)
        )
        self._sleep_flag, self._their_flag = (
            (_CLIENT_SLEEPS, _RUNTIME_SLEEPS) if side == "client" else (_RUNTIME_SLEEPS, _CLIENT_SLEEPS)
        )
        os.set_blocking(self._mine, False)
        os.set_blocking(self._theirs, False)
        self._poll = select.poll()
        self._poll.register(self._mine, select.POLLIN)
        self._number = self._words[_REQUEST if side == "client" else _ANSWER]

    def close(self) -> None:
        """Give the memory back; the other side keeps its own view."""
        self._words.release()
        self._bytes.release()
        self._map.close()
        for descriptor in self._descriptors:
            os.close(descriptor)

    # --- the client's ------------------------------------------------------------------------------

    def request(self, data: bytes) -> bool:
        """Put a request; False if the lane is closed, or the request is too large for it."""
        if self._words[_CLOSED] or len(data) > AREA:
            return False
        self._bytes[_PAGE : _PAGE + len(data)] = data
        self._words[_REQUEST_LENGTH] = len(data)
        self._number += 1
        self._words[_REQUEST] = self._number
        self._wake()
        return True

    def wait_answer(self, timeout_s: float) -> bytes | None:
        """The answer to the last request; None if there is none in time, or the lane was closed before it."""
        words, number = self._words, self._number
        if not self._wait(lambda: words[_ANSWER] == number or words[_CLOSED] != 0, timeout_s):
            return None
        length = words[_ANSWER_LENGTH]
        if words[_ANSWER] != number or length > AREA:
            return None
        start = _PAGE + AREA
        return bytes(self._bytes[start : start + length])

    @property
    def closed(self) -> bool:
        """Whether the runtime takes no more requests."""
        return self._words[_CLOSED] != 0

    # --- the runtime's -----------------------------------------------------------------------------

    def wait_request(self, timeout_s: float, *, over: Callable[[], bool] = lambda: False) -> bytes | None:
        """The next request; None if none comes in time, or `over` says that it need not be waited for."""
        words, number = self._words, self._number + 1
        if (
            not self._wait(lambda: words[_REQUEST] == number or over(), timeout_s)
            or words[_REQUEST] != number
        ):
            return None
        self._number = number
        length = words[_REQUEST_LENGTH]
        return bytes(self._bytes[_PAGE : _PAGE + min(length, AREA)])

    def answer(self, data: bytes) -> None:
        """Answer the request that was taken last; at most AREA bytes."""
        start = _PAGE + AREA
        self._bytes[start : start + len(data)] = data
        self._words[_ANSWER_LENGTH] = len(data)
        self._words[_ANSWER] = self._number
        self._wake()

    def shut(self) -> None:
        """Take no more requests; one that was put and not taken is not executed, and its client told so."""
        self._words[_CLOSED] = 1
        self._wake()

    def nudge(self) -> None:
        """Wake the runtime, so that it looks whether it is still wanted. For the dispatcher's own view of a lane."""
        try:
            os.eventfd_write(self._mine, 1)
        except BlockingIOError:
            return

    # --- waiting -----------------------------------------------------------------------------------

    def _wait(self, ready: Callable[[], bool], timeout_s: float) -> bool:
        until = time.perf_counter() + min(SPIN_S, timeout_s)
        while True:
            for _ in range(_SPINS):
                if ready():
                    return True
            if time.perf_counter() > until:
                break
        return self._rest(ready, time.perf_counter() + timeout_s - SPIN_S)

    def _rest(self, ready: Callable[[], bool], until: float) -> bool:
        """Sleep until woken. The flag says that waking is needed; setting it and looking again is a race that a
        processor may let both sides lose, so a sleeper also looks by itself.
        """
        self._words[self._sleep_flag] = 1
        try:
            while not ready():
                left = until - time.perf_counter()
                if left <= 0:
                    return False
                if self._poll.poll(min(_NAP_MS, left * 1000 + 1)):
                    os.eventfd_read(self._mine)
            return True
        finally:
            self._words[self._sleep_flag] = 0

    def _wake(self) -> None:
        if self._words[self._their_flag]:
            try:
                os.eventfd_write(self._theirs, 1)
            except BlockingIOError:
                return  # the counter is full: the sleeper has been woken more than enough


def lanes_work_here() -> bool:
    """Whether this processor shows stores in the order they were made, which is all that orders a lane."""
    return platform.machine() in {"x86_64", "AMD64"}


def make_lane() -> tuple[int, int, int]:
    """The descriptors of a new lane: its memory, and what wakes the client and the runtime."""
    memory = os.memfd_create("qslurm-lane", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(memory, SIZE)
        _seal(memory)
        return memory, os.eventfd(0, os.EFD_CLOEXEC), os.eventfd(0, os.EFD_CLOEXEC)
    except OSError:
        os.close(memory)
        raise


def _seal(memory: int) -> None:
    """Fix the size: a side that shrank the memory would end the other with SIGBUS (memfd_create(2))."""
    import fcntl

    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
