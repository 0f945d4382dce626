"""`qslurm step`: the classical part of a job on C2, started by its batch script as the job's user.

The step of a circuit job waits for the counts and prints them. A hybrid job's step runs the user's file; what
the file prints is the job's output, and the final result is its last line.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from qslurm.c2.config.dispatcher_section import DispatcherConfig
from qslurm.errors import InvalidInputError, JobFailedError, QslurmError
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from qslurm.runtimes.classical.warm.warm_client import FAILED, TOKEN
from qslurm.runtimes.interface import Outcome
from qslurm.system.encoding_errors import without_surrogates
from qslurm.wire.credentials import Identity

MAX_RESULT_BYTES = 6 * 1024 * 1024
"""Size of a final result; the dispatcher takes messages of at most 8 MiB."""

MAX_REASON_CHARACTERS = 4000
"""Length of the error text of a file that failed."""


def run_step(script_path: Path, config: DispatcherConfig, *, identity: Identity | None = None) -> int:
    """Run the step of the Slurm job that this process belongs to; returns the exit code, 0 or 1.

    `script_path` is the job's batch script, for messages: its data comes from the dispatcher, which has it from
    Slurm. `identity` proves whose process this is (default: MUNGE).
    """
    output = _Output()
    try:
        job_id, restart = _job_in_environment(script_path)
        with DispatcherClient(config.socket, munge_socket=config.munge_socket, identity=identity) as client:
            session = DispatcherSession(
                client, job_id, restart, say=output.print_waiting, exit_process=output.exit_process,
                lanes=True, token=os.environ.pop(TOKEN, ""),
            )  # fmt: skip
            with closing(session):
                if session.attached.kind == "circuit":
                    output.print_line(counts_table(session.circuit_outcome()))
                elif session.attached.kind == "session":
                    _hold_session(session, output)
                else:
                    output.print_line(_run_hybrid(session, output))
    except QslurmError as error:
        output.print_error(str(error))
        return 1
    return 0


class _Output:
    """The step's own output, opened before the user's code runs, which may close or replace stdout and print.

    Whether it can be written does not change how the job ends.
    """

    def __init__(self) -> None:
        self._out, self._err = (_copy(number) for number in (1, 2))
        self._write = os.write
        self._exit = os._exit

    def print_line(self, text: str) -> None:
        """Print a line of the job's output."""
        self._write_text(self._out, text)

    def print_error(self, text: str) -> None:
        """Print a message to stderr."""
        self._write_text(self._err, f"qslurm: {text}")

    def print_waiting(self, reason: str) -> None:
        """Print why the job waits."""
        self._write_text(self._err, f"qslurm: waiting: {reason.rstrip('.')}.")

    def exit_process(self, error: QslurmError) -> None:
        """End this process at once: the user's code would catch any exception."""
        try:
            self.print_error(str(error))
        finally:
            self._exit(FAILED)

    def _write_text(self, to: int, text: str) -> None:
        for stream in (sys.stdout, sys.stderr):  # the user's output comes first
            with suppress(Exception):
                stream.flush()
        data = f"{text}\n".encode(errors="backslashreplace")
        with suppress(OSError):
            while to >= 0 and data:
                data = data[self._write(to, data) :]


def _copy(number: int) -> int:
    """A descriptor of the same file; -1 if there is none."""
    try:
        return os.dup(number)
    except OSError:
        return -1


def fail_step(
    script_path: Path, config: DispatcherConfig, reason: str, *, identity: Identity | None = None
) -> int:
    """Report the reason for which a step's process was ended; returns the exit code.

    It is 1, or 0 if the process had handed in its result before.
    """
    output = _Output()
    try:
        job_id, restart = _job_in_environment(script_path)
        with DispatcherClient(config.socket, munge_socket=config.munge_socket, identity=identity) as client:
            session = DispatcherSession(
                client, job_id, restart, say=output.print_waiting, token=os.environ.pop(TOKEN, "")
            )
            if session.attached.state == "finished":
                return 0
            output.print_error(reason)
            if session.attached.kind == "hybrid" and session.attached.envelope is not None:
                session.conclude(failure=reason)
    except QslurmError as error:
        output.print_error(f"{reason} Cannot report this to the dispatcher: {error}")
    return 1


def counts_table(outcome: Outcome) -> str:
    """Counts as aligned lines, `bits count share`."""
    width = max((len(bits) for bits in outcome.counts), default=0)
    digits = max((len(str(count)) for count in outcome.counts.values()), default=0)
    total = max(outcome.shots_done, 1)
    lines = [
        f"{bits:<{width}}  {count:>{digits}}  {count / total:7.2%}"
        for bits, count in sorted(outcome.counts.items())
    ]
    return "\n".join([*lines, f"{outcome.shots_done} shots"])


def _hold_session(session: DispatcherSession, output: _Output) -> None:
    """Keep Slurm's job running as long as its session lasts; the loop runs at the center."""
    output.print_line("The session is open.")
    ended = session.wait_for_end()
    if ended.state != "finished":
        raise JobFailedError(ended.reason or f"The session has ended: {ended.state}.")
    output.print_line("The session has ended.")


def _run_hybrid(session: DispatcherSession, output: _Output) -> str:
    from qslurm.runtimes.hybrid.hybrid_file import run_hybrid

    attached = session.attached
    if attached.final_result is not None:  # an earlier start of this job has finished
        return attached.final_result
    envelope = attached.envelope
    if envelope is None:
        raise QslurmError(attached.reason or f"The job has ended: {attached.state}.")
    remarks: list[str] = []
    step_pid, getpid, exit_now, encode = os.getpid(), os.getpid, os._exit, msgspec.json.encode
    try:
        result = run_hybrid(
            envelope.source,
            envelope.file,
            session,
            shots=envelope.shots,
            parameters=envelope.parameters,
            remark=remarks.append,
        )
        final_result = _check_size(encode(result).decode())
    except (QslurmError, KeyboardInterrupt) as error:
        if getpid() != step_pid:  # a fork of the user's code
            exit_now(FAILED)
        failure = _failure_of(error, envelope.file)
        session.conclude(failure=without_surrogates(str(failure))[:MAX_REASON_CHARACTERS])
        raise failure from error.__cause__
    if getpid() != step_pid:
        exit_now(0)
    if not session.executions:
        output.print_error("the hybrid file executed no circuit.")
    for remark in remarks:
        output.print_error(remark)
    session.conclude(final_result=final_result, remark=" ".join(remarks))
    return final_result


def _failure_of(error: QslurmError | KeyboardInterrupt, file: str) -> QslurmError:
    if isinstance(error, QslurmError):
        return error
    return JobFailedError(f"{file} was interrupted before it had a result.")


def _check_size(final_result: str) -> str:
    if len(final_result) > MAX_RESULT_BYTES:
        raise JobFailedError(
            f"The final result has {len(final_result) / 2**20:.1f} MiB; the limit is {MAX_RESULT_BYTES // 2**20} MiB.",
            hint="Return less, or write the rest to a file.",
        )
    return final_result


def _job_in_environment(script_path: Path) -> tuple[int, int]:
    try:
        return int(os.environ["SLURM_JOB_ID"]), int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    except (KeyError, ValueError) as error:
        raise InvalidInputError(
            f"{script_path} is a job step, and this is not a Slurm job: SLURM_JOB_ID is not set.",
            hint="Submit it with qslurm submit, or run the circuit or hybrid file with qslurm run.",
        ) from error
