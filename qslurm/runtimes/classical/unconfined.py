"""Runs a job's step where confinement is off: it sees the node as it is, and its own folder is removed afterwards."""

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
from qslurm.runtimes.classical.warm.warm_client import (
    DONE,
    FAILED,
    FORWARDED_SIGNALS,
    TOKEN,
    exit_of,
    user_script,
)
from qslurm.system.child_process import end_with
from qslurm.system.fast_exit import leave

_PREFIX = "qslurm-job-"


def run(script: Path, config: C2Config, arguments: Sequence[str] | None = None) -> int:
    """Run the step in a process of its own and in a new folder; returns the exit code.

    `arguments` are those of a batch script to run; None: the script only starts this step.
    """
    if arguments is not None:
        text = user_script(str(script))
        code, _ = run_in_own_folder(
            lambda: run_script(text, Path.cwd().with_name("script"), arguments), is_script=True
        )
        return code
    from qslurm.runtimes.classical.step import (  # scripts do not need it, and it is slow to import
        fail_step,
        run_step,
    )

    token = os.environ.get(TOKEN) or os.urandom(16).hex()
    os.environ[TOKEN] = token
    code, reason = run_in_own_folder(lambda: DONE if run_step(script, config.dispatcher) == 0 else FAILED)
    return fail_step(script, config.dispatcher, reason) if reason else code


def run_in_own_folder(work: Callable[[], int], *, is_script: bool = False) -> tuple[int, str]:
    """Run `work` in a process with a new folder; returns what `exit_of` makes of its end."""
    with own_folder(Path.cwd()) as folder:
        (folder / "job").mkdir(mode=0o700)
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            _child(work, folder / "job", parent)
        forwarded: list[int] = []

        def forward(number: int, _: object) -> None:
            forwarded.append(number)
            with suppress(ProcessLookupError):
                os.kill(pid, number)

        for number in FORWARDED_SIGNALS:
            signal.signal(number, forward)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return exit_of(f"exit {code}" if code >= 0 else f"signal {-code}", forwarded, is_script)


def _child(work: Callable[[], int], folder: Path, parent: int) -> NoReturn:
    code = FAILED
    try:
        end_with(parent)
        os.chdir(folder)
        code = work()
    except BaseException:  # noqa: BLE001 -- printed as Python prints it; a fork must not return
        sys.excepthook(*sys.exc_info())
    leave(code)


@contextmanager
def own_folder(parent_folder: Path) -> Iterator[Path]:
    """A new folder in `parent_folder`, removed afterwards, together with those of jobs that were killed."""
    with ExitStack() as opened:
        lock = _open_folder(parent_folder, opened)
        fcntl.flock(lock, fcntl.LOCK_EX)  # a new folder that is not locked yet must not look abandoned
        for abandoned in parent_folder.glob(f"{_PREFIX}*"):
            _remove_if_abandoned(abandoned)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent_folder))
        fcntl.flock(_open_folder(folder, opened), fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_UN)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a folder that no job has locked; another user's folder is left alone."""
    with ExitStack() as opened:
        try:
            fcntl.flock(_open_folder(folder, opened), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        shutil.rmtree(folder, ignore_errors=True)


def _open_folder(folder: Path, opened: ExitStack) -> int:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    opened.callback(os.close, handle)
    return handle
