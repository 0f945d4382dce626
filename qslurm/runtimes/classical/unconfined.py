"""A job's step where confinement is off: it sees the node as it is, and has a folder that is removed after it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from qslurm.c2.config.file import C2Config
from qslurm.runtimes.classical.script import run_script
from qslurm.runtimes.classical.warm.warm_client import DONE, FAILED, PASSED_ON, TOKEN, outcome, text_of
from qslurm.system.child_process import end_with
from qslurm.system.fast_exit import leave

_PREFIX = "qslurm-job-"


def run(script: Path, config: C2Config, arguments: Sequence[str] | None = None) -> int:
    """Run the step in a process of its own, which may end anyhow, and in a new folder; the exit code.

    `arguments` are those of a batch script that is to be run; None: the script only hands over to this step.
    """
    if arguments is not None:
        text = text_of(str(script))
        code, _ = do(lambda: run_script(text, Path.cwd().with_name("script"), arguments), is_script=True)
        return code
    from qslurm.runtimes.classical.step import fail_step, run_step  # not for scripts: it takes a while

    token = os.environ.get(TOKEN) or os.urandom(16).hex()
    os.environ[TOKEN] = token
    code, reason = do(lambda: DONE if run_step(script, config.dispatcher) == 0 else FAILED)
    return fail_step(script, config.dispatcher, reason) if reason else code


def do(work: Callable[[], int], *, is_script: bool = False) -> tuple[int, str]:
    """Do work in a process whose folder is new: what `outcome` makes of its end."""
    with own_folder(Path.cwd()) as folder:
        (folder / "job").mkdir(mode=0o700)
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            _work(work, folder / "job", parent)
        ended_by: list[int] = []

        def pass_on(number: int, _: object) -> None:
            ended_by.append(number)
            with suppress(ProcessLookupError):
                os.kill(pid, number)

        for number in PASSED_ON:
            signal.signal(number, pass_on)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return outcome(f"exit {code}" if code >= 0 else f"signal {-code}", ended_by, is_script)


def _work(work: Callable[[], int], folder: Path, parent: int) -> NoReturn:
    code = FAILED
    try:
        end_with(parent)
        os.chdir(folder)
        code = work()
    except BaseException:  # noqa: BLE001 -- shown as Python shows it; a fork must not return
        sys.excepthook(*sys.exc_info())
    leave(code)


@contextmanager
def own_folder(place: Path) -> Iterator[Path]:
    """A new folder in `place`, which is gone afterwards, and with it those whose jobs were killed before."""
    with ExitStack() as opened:
        guard = _opened(place, opened)
        fcntl.flock(guard, fcntl.LOCK_EX)  # a folder that is not yet held must not seem to be left
        for left in place.glob(f"{_PREFIX}*"):
            _remove_if_left(left)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        fcntl.flock(_opened(folder, opened), fcntl.LOCK_EX)
        fcntl.flock(guard, fcntl.LOCK_UN)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_if_left(folder: Path) -> None:
    """Remove a folder that no job holds; one that is another user's stays."""
    with ExitStack() as opened:
        try:
            fcntl.flock(_opened(folder, opened), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        shutil.rmtree(folder, ignore_errors=True)


def _opened(folder: Path, opened: ExitStack) -> int:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    opened.callback(os.close, handle)
    return handle
