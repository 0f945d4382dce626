"""`qslurm session`: run a program on this node while C2 holds a backend for it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
import msgspec

from qslurm.cli.output import note, print_json
from qslurm.cli.shared_options import (
    CenterFlags,
    Seconds,
    center_options,
    job_options,
    json_option,
)
from qslurm.errors import InvalidInputError
from qslurm.system.encoding_errors import without_surrogates

if TYPE_CHECKING:
    from qslurm.c1.api.session import Session
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.sessions.opening import SessionOptions
    from qslurm.payload.spec import JobSpec

_BY_SIGNAL = 128
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as shells have them


@click.command()
@click.argument(
    "words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="FILE.py | -- COMMAND [WORD]..."
)
@job_options(
    "session",
    shots="Default number of shots for FILE.",
    variables="Value in qi.parameters of FILE; may be repeated.",
)
@click.option(
    "--idle-limit",
    "idle_limit_s",
    type=Seconds(1e9),
    default=60.0,
    metavar="SECONDS",
    help="End the session after this time without a circuit.",
)
@click.option(
    "--wait-limit",
    "wait_limit_s",
    type=Seconds(1e9),
    metavar="SECONDS",
    show_default="none",
    help="Give up if the session has not started after this time.",
)
@json_option
@center_options
def session(
    *,
    words: tuple[str, ...],
    idle_limit_s: float,
    wait_limit_s: float | None,
    variables: tuple[str, ...],
    as_json: bool,
    center: CenterFlags,
    **options: Any,
) -> int:
    """Run a program on this node while C2 holds a backend for it; circuits go there directly, encrypted.

    A hybrid FILE.py runs as `qslurm submit` would run it on C2, with its #QSLURM lines. Any other COMMAND gets the
    session from its environment: in Python `qi = qslurm.Session.current()`, in any number of processes. The session
    is a job on C2: it is queued, accounted, and can be cancelled like any other.

    \b
    Examples, in an sbatch script:
      qslurm session --backend spin2 --idle-limit 30 vqe.py
      qslurm session --backend spin2 --time 30:00 -- python loop.py
      qslurm session --backend qx --wait-limit 600 -- srun -n 16 python workers.py
    """
    from qslurm.c1.sessions.opening import SessionOptions
    from qslurm.cli.submit_preparation import select_platform

    job = _job(words, center, variables, options)
    platform, (job,) = select_platform(center, [job])
    session_options = SessionOptions(job, idle_limit_s, wait_limit_s)
    if job.file is None:
        with _signals_interrupt(), _opened(center.open(platform), session_options) as opened:
            return _run_command(opened, words)
    from qslurm.runtimes.hybrid.isolated import run_isolated

    # The child process has the session's connection; if it is killed, the idle limit ends the session.
    file = without_surrogates(job.file.name)
    document = run_isolated(
        partial(_run_file, center, platform, session_options), file, print_to_stderr=as_json
    )
    if as_json:
        print_json(document)
    else:
        from qslurm.cli.results import print_results

        print_results(document)
    return 0


def _job(
    words: tuple[str, ...], center: CenterFlags, variables: tuple[str, ...], options: dict[str, Any]
) -> JobSpec:
    """The session's job, with the options in a hybrid file; `file` is None for a command."""
    from qslurm.c1.submission.job_reader import read, refuse_empty, variables_of
    from qslurm.payload.spec import JobSpec

    values = variables_of(variables)
    name = without_surrogates(Path(words[0]).stem)
    job = JobSpec(platform=center.platform, variables=values, **options)
    refuse_empty(job)
    if len(words) == 1 and words[0].endswith(".py"):
        job = read(msgspec.structs.replace(job, file=Path(words[0])), note)
        _check(job)
        return msgspec.structs.replace(job, name=job.name or name)
    if job.shots or values:
        raise InvalidInputError("--shots and --set apply only to a hybrid FILE.py.")
    if shutil.which(words[0]) is None:  # else a mistyped name would fail only after the wait for the backend
        raise InvalidInputError(f"Command not found: {words[0]}.", hint="Nothing was submitted to C2.")
    return msgspec.structs.replace(job, source="", kind="hybrid", name=job.name or name)


def _check(job: JobSpec) -> None:
    from qslurm.runtimes.hybrid.hybrid_file import check_hybrid

    try:
        check_hybrid(job.source or "", str(job.file))
    except InvalidInputError as error:
        advice = f"{error.hint} For other files: `qslurm session … -- python {shlex.quote(str(job.file))}`."
        raise InvalidInputError(error.message, hint=advice.strip()) from error


@contextmanager
def _opened(connection: CenterConnection, options: SessionOptions) -> Iterator[Session]:
    from qslurm.c1.api.session import Session
    from qslurm.c1.sessions.opening import open_session

    opened = open_session(connection, options, os.environ, lambda reason: note(f"qslurm: {reason}"))
    with Session(opened.client, opened.job_id, on_close=connection.close) as held:
        note(f"qslurm: The session has started: job {connection.prefix}{held.job_id} on C2.")
        yield held


def _run_file(center: CenterFlags, platform: str, options: SessionOptions) -> dict[str, Any]:
    """Run a hybrid file in a session; its result document."""
    from qslurm.runtimes.hybrid.hybrid_file import run_hybrid

    job = options.job
    file = without_surrogates(job.file.name) if job.file else ""
    with _signals_interrupt(), _opened(center.open(platform), options) as opened:
        opened.final_result = run_hybrid(
            job.source or "",
            file,
            opened.transport,
            shots=job.shots,
            parameters=job.variables,
            remark=opened.remarks.append,
        )
    return {
        "job_id": opened.job_id,
        "kind": "session",
        "final_result": opened.final_result,
        "executions": opened.executions,
        "remarks": opened.remarks,
    }


def _run_command(opened: Session, words: tuple[str, ...]) -> int:
    """Run a command with the session in its environment; its exit code."""
    from qslurm.c1.sessions.sharing import VARIABLE, shared

    with shared(opened.transport) as share:
        environment = {**os.environ, VARIABLE: str(share.path)}
        try:
            child = subprocess.Popen(words, env=environment)
        except OSError as error:
            code = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
            note(f"qslurm: Cannot run {words[0]}: {error.strerror}.")
            opened.close(f"Cannot run {words[0]}: {error.strerror}.")
            return code
        code = _wait(child)
        if share.final_result is not None:
            import json

            opened.final_result = json.loads(share.final_result)
            opened.remarks += [share.remark] if share.remark else []
    if code < 0:
        opened.close(f"{words[0]} was killed by signal {-code}.")
        return _BY_SIGNAL - code
    if code:
        opened.close(f"{words[0]} exited with code {code}.")
    return code


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for the command; pass an interrupt on to it as SIGTERM."""
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.send_signal(signal.SIGTERM)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Turn termination signals into KeyboardInterrupt, so that a cancelled batch job ends its session at once."""
    from qslurm.c1.sessions.termination import TERMINATING

    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        if len(received) == 1:  # the batch system signals every process; raise only once
            raise KeyboardInterrupt

    wanted = [
        number for number in TERMINATING if signal.getsignal(number) != signal.SIG_IGN
    ]  # as under nohup
    before = {number: signal.signal(number, interrupt) for number in wanted}
    try:
        yield
    except KeyboardInterrupt as error:
        if received:
            raise click.exceptions.Exit(_BY_SIGNAL + received[0]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
