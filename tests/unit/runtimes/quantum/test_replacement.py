"""A quantum runtime that has ended is replaced, whatever else happens at that moment; one that can't start, seldom."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import zmq

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.runtimes.quantum.pool import RuntimePool
from tests.unit.c2.dispatcher.running import Running, is_gone
from tests.unit.waiting import until


def descriptors(running: Running) -> int:
    return len(os.listdir(f"/proc/{running.process.pid}/fd"))  # noqa: PTH208


def guests(running: Running, path: str) -> list[socket.socket]:
    """Some who have connected, and most of whom the dispatcher has let in; others may be leaving it meanwhile."""
    before, found = descriptors(running), [socket.socket(socket.AF_UNIX) for _ in range(16)]
    for guest in found:
        guest.connect(path)
    until(lambda: descriptors(running) >= before + len(found) - 4)
    return found


def test_it_is_replaced_again_also_where_its_descriptor_has_just_been_somebody_elses(home: Path) -> None:
    """Descriptors are numbers: that of a new process's end may be one that a client has left free."""
    with Running(home).ready() as running:
        path = running.config.socket
        for _ in range(2):
            (worker,) = running.freeze()
            with ExitStack() as there:
                for guest in guests(running, path):  # they have all numbers that are free
                    there.enter_context(guest)
                leaving = guests(running, path)
                os.kill(running.process.pid, signal.SIGSTOP)
                for guest in leaving:
                    guest.close()
                os.kill(worker, signal.SIGKILL)  # it hears of all of them at once
                os.kill(running.process.pid, signal.SIGCONT)
                until(
                    lambda gone=worker: [pid for pid in running.workers() if pid != gone and not is_gone(pid)]
                )


def test_what_ends_at_once_is_started_ever_more_seldom_and_its_backend_says_why(tmp_path: Path) -> None:
    """Also one that joins first: a start that fails is known by what it was good for."""
    backend = BackendConfig(name="qx", workers=1)
    with zmq.Context() as context:
        pool = RuntimePool(context, [backend], tmp_path, limit_s=60.0)
        now, pauses = time.monotonic() + 1000, []  # after all pauses
        try:
            for number in range(1, 6):
                pool.fill(now)
                (runtime,) = pool.runtimes.values()
                runtime.joined_at = now + 1e9 if number % 2 else 0.0  # it has just joined; or it has not
                runtime.process.kill()
                (ended,) = until(pool.ended)
                pool.end_reason(ended)
                pool.remove(ended)
                assert pool.failed_starts("qx") == number
                pauses.append(pool.next_event())
            assert pauses == sorted(pauses)
            assert "cannot start: signal 9" in pool.failures["qx"]
            pool.fill(now)
            (runtime,) = pool.runtimes.values()
            runtime.used = True  # it has executed something
            runtime.process.kill()
            (ended,) = until(pool.ended)
            pool.end_reason(ended)
            pool.remove(ended)
            assert pool.failed_starts("qx") == 0
        finally:
            pool.close(lambda: None)
