"""Runs a user's code in a child process, which may end in any way; its result, or its exception, comes back
over a pipe.

The pipe is opened before the code runs; whatever that does to stdout, or to a module, changes nothing in this
process.
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

FORWARDED_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
_HEADER = 8
_CHUNK = 1 << 20


def run_isolated(work: Callable[[], T], what: str, *, print_to_stderr: bool = False) -> T:
    """The result of `work`, run in a child process, or the exception it raised; the result is pickled.

    A child that ends without a result is a JobFailedError about `what`. Signals are forwarded to the child, and
    one that ends it ends this process, too. With `print_to_stderr` its output goes to stderr.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    read_end, write_end = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _run_child(work, write_end, parent, print_to_stderr=print_to_stderr)
    os.close(write_end)
    forwarded: list[int] = []
    with _signals_forwarded(pid, forwarded):
        body = _read_result(read_end, pid)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if body is not None:
        result: tuple[T, BaseException | None] = pickle.loads(body)  # noqa: S301 - from our own child, of this user
        if result[1] is not None:
            raise result[1]
        return result[0]
    if -code == signal.SIGINT:
        raise KeyboardInterrupt
    if -code in forwarded:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
    hint = "Return from execute and finalize." if code >= 0 else ""
    raise JobFailedError(f"{what} {how} before it had a result.", hint=hint)


def _run_child(work: Callable[[], Any], out: int, parent: int, *, print_to_stderr: bool) -> NoReturn:
    """In the child, which must not return."""
    dump, write = pickle.dumps, os.write
    answer: tuple[Any, BaseException | None]
    try:
        end_with(parent)
        if print_to_stderr:
            os.dup2(2, 1)
        answer = work(), None
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException as error:  # noqa: BLE001 - raised in the parent
        answer = None, error
    try:
        body = dump(answer)
    except Exception as error:  # noqa: BLE001 - an exception may not be picklable
        body = dump((None, QslurmError(f"{type(error).__name__}: {error}")))
    data = memoryview(len(body).to_bytes(_HEADER, "big") + body)
    with suppress(BrokenPipeError):
        while data:
            data = data[write(out, data) :]
    leave(0)


def _read_result(source: int, pid: int) -> bytes | None:
    """The child's result, if complete; its own children may keep the pipe open after its end."""
    process, data = os.pidfd_open(pid), bytearray()
    poll = select.poll()
    for fd in (source, process):
        poll.register(fd, select.POLLIN)
    os.set_blocking(source, False)
    try:
        while True:
            has_ended = process in {fd for fd, _ in poll.poll()}
            with suppress(BlockingIOError):
                while chunk := os.read(source, _CHUNK):
                    data += chunk
                has_ended = True  # end of file
            size = _HEADER + int.from_bytes(data[:_HEADER], "big")
            if size > _HEADER and len(data) >= size:
                return bytes(data[_HEADER:size])
            if has_ended:
                return None
    finally:
        os.close(source)
        os.close(process)


@contextmanager
def _signals_forwarded(pid: int, forwarded: list[int]) -> Iterator[None]:
    """Forward the signals of a batch system or a user to the child; it receives a terminal's Ctrl-C itself."""

    def forward(number: int, _: object) -> None:
        if number == signal.SIGINT and _is_in_foreground():
            return
        forwarded.append(number)
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    forwardable = [
        number for number in FORWARDED_SIGNALS if signal.getsignal(number) != signal.SIG_IGN
    ]  # e.g. nohup
    before = {number: signal.signal(number, forward) for number in forwardable}
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
