"""Runs a user's own code in a child of this process, which may end anyhow: what it gave comes by a pipe, or why not.

The pipe is there before the code runs; what that does to stdout, or to a module, changes nothing in this process.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

from qslurm.errors import JobFailedError, QslurmError
from qslurm.system.child_process import end_with
from qslurm.system.fast_exit import leave

T = TypeVar("T")

PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
_HEADER = 8
_PIECE = 1 << 20


def apart(work: Callable[[], T], what: str, *, print_beside: bool = False) -> T:
    """What `work` gives, or raises, in a child process; it is best made of Python's own types, as it is pickled.

    A child that ends by itself before that is a JobFailedError about `what`. Signals are passed on to the child, and
    one that ends it ends this process, too. With `print_beside` what it prints goes to stderr.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    theirs, ours = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(theirs)
        _work(work, ours, parent, print_beside=print_beside)
    os.close(ours)
    passed_on: list[int] = []
    with _signals_passed_on(pid, passed_on):
        body = _answer(theirs, pid)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if body is not None:
        given: tuple[T, BaseException | None] = pickle.loads(body)  # noqa: S301 - from our own child, of this user
        if given[1] is not None:
            raise given[1]
        return given[0]
    if -code == signal.SIGINT:
        raise KeyboardInterrupt
    if -code in passed_on:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
    hint = "Return from execute and finalize." if code >= 0 else ""
    raise JobFailedError(f"{what} {how} before it had a result.", hint=hint)


def _work(work: Callable[[], Any], out: int, parent: int, *, print_beside: bool) -> NoReturn:
    """In the child, which must not return."""
    dump, write = pickle.dumps, os.write
    answer: tuple[Any, BaseException | None]
    try:
        end_with(parent)
        if print_beside:
            os.dup2(2, 1)
        answer = work(), None
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for it
        answer = None, error
    try:
        body = dump(answer)
    except Exception as error:  # noqa: BLE001 - an exception may hold what can't be pickled
        body = dump((None, QslurmError(f"{type(error).__name__}: {error}")))
    data = memoryview(len(body).to_bytes(_HEADER, "big") + body)
    with suppress(BrokenPipeError):
        while data:
            data = data[write(out, data) :]
    leave(0)


def _answer(source: int, pid: int) -> bytes | None:
    """What the child says before it ends, if it says all of it; its own children may keep the pipe open for longer."""
    process, data = os.pidfd_open(pid), bytearray()
    waiting = select.poll()
    for fd in (source, process):
        waiting.register(fd, select.POLLIN)
    os.set_blocking(source, False)
    try:
        while True:
            has_ended = process in {fd for fd, _ in waiting.poll()}
            with suppress(BlockingIOError):
                while piece := os.read(source, _PIECE):
                    data += piece
                has_ended = True  # there will be no more
            size = _HEADER + int.from_bytes(data[:_HEADER], "big")
            if size > _HEADER and len(data) >= size:
                return bytes(data[_HEADER:size])
            if has_ended:
                return None
    finally:
        os.close(source)
        os.close(process)


@contextmanager
def _signals_passed_on(pid: int, passed_on: list[int]) -> Iterator[None]:
    """What a batch system or a user sends to this process is the child's; a terminal's Ctrl-C it has got itself."""

    def pass_on(number: int, _: object) -> None:
        if number == signal.SIGINT and _is_in_foreground():
            return
        passed_on.append(number)
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    wanted = [number for number in PASSED_ON if signal.getsignal(number) != signal.SIG_IGN]  # as under nohup
    before = {number: signal.signal(number, pass_on) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
