"""`qslurm step`: a job's classical part on C2, run by its batch script as the job's user.

A circuit job waits for what its circuit gave and prints it. A hybrid job runs the user's file here; what the file
prints is the job's output, and the final result is its last line.
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

LARGEST_RESULT = 6 * 1024 * 1024
"""Bytes of a final result; the dispatcher takes messages of at most 8 MiB."""

LONGEST_REASON = 4000
"""Characters of what a file failed with."""


def run_step(script_path: Path, config: DispatcherConfig, *, identity: Identity | None = None) -> int:
    """Do the work of the Slurm job that this process is in; the answer is the exit code, 0 or 1.

    `script_path` is the job's batch script, for messages: its data comes from the dispatcher, which has it from
    Slurm. `identity` is how to prove who this is (default: MUNGE).
    """
    output = _Output()
    try:
        job_id, restart = _which_job(script_path)
        with DispatcherClient(config.socket, munge_socket=config.munge_socket, identity=identity) as client:
            session = DispatcherSession(
                client, job_id, restart, say=output.waits, exit_process=output.exit_process,
                lanes=True, token=os.environ.pop(TOKEN, ""),
            )  # fmt: skip
            with closing(session):
                if session.attached.kind == "circuit":
                    output.say(counts_table(session.circuit_outcome()))
                elif session.attached.kind == "session":
                    _hold(session, output)
                else:
                    output.say(_run_hybrid(session, output))
    except QslurmError as error:
        output.complain(str(error))
        return 1
    return 0


class _Output:
    """Where the step itself writes: taken before the user's code runs, which may close or replace stdout and print.

    Whether it can be written does not decide how a job ends.
    """

    def __init__(self) -> None:
        self._out, self._err = (_copy(number) for number in (1, 2))
        self._write = os.write
        self._exit = os._exit

    def say(self, text: str) -> None:
        """A line of the job's output."""
        self._print(self._out, text)

    def complain(self, text: str) -> None:
        """A line beside it."""
        self._print(self._err, f"qslurm: {text}")

    def waits(self, reason: str) -> None:
        """Why the job waits."""
        self._print(self._err, f"qslurm: waiting: {reason.rstrip('.')}.")

    def exit_process(self, error: QslurmError) -> None:
        """End this process at once: the user's code catches whatever is raised in it, here too."""
        try:
            self.complain(str(error))
        finally:
            self._exit(FAILED)

    def _print(self, to: int, text: str) -> None:
        for stream in (sys.stdout, sys.stderr):  # what the user printed comes before what we print
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
    """Say of a step whose process has been ended why it was; the answer is the exit code.

    It is 1, and 0 where the process had handed in its result before.
    """
    output = _Output()
    try:
        job_id, restart = _which_job(script_path)
        with DispatcherClient(config.socket, munge_socket=config.munge_socket, identity=identity) as client:
            session = DispatcherSession(
                client, job_id, restart, say=output.waits, token=os.environ.pop(TOKEN, "")
            )
            if session.attached.state == "finished":
                return 0
            output.complain(reason)
            if session.attached.kind == "hybrid" and session.attached.envelope is not None:
                session.conclude(failure=reason)
    except QslurmError as error:
        output.complain(f"{reason} Cannot report this to the dispatcher: {error}")
    return 1


def counts_table(outcome: Outcome) -> str:
    """Counts as aligned lines, `bits count share`, the bits as in the results."""
    width = max((len(bits) for bits in outcome.counts), default=0)
    digits = max((len(str(count)) for count in outcome.counts.values()), default=0)
    total = max(outcome.shots_done, 1)
    lines = [
        f"{bits:<{width}}  {count:>{digits}}  {count / total:7.2%}"
        for bits, count in sorted(outcome.counts.items())
    ]
    return "\n".join([*lines, f"{outcome.shots_done} shots"])


def _hold(session: DispatcherSession, output: _Output) -> None:
    """Stay in Slurm's job for as long as its session lasts; the loop runs elsewhere."""
    output.say("The session is open.")
    ended = session.wait_for_end()
    if ended.state != "finished":
        raise JobFailedError(ended.reason or f"The session has ended: {ended.state}.")
    output.say("The session has ended.")


def _run_hybrid(session: DispatcherSession, output: _Output) -> str:
    from qslurm.runtimes.hybrid.hybrid_file import run_hybrid

    attached = session.attached
    if attached.final_result is not None:  # another start of the same submission has finished
        return attached.final_result
    envelope = attached.envelope
    if envelope is None:
        raise QslurmError(attached.reason or f"The job has ended: {attached.state}.")
    remarks: list[str] = []
    here, process, end, encode = os.getpid(), os.getpid, os._exit, msgspec.json.encode
    try:
        result = run_hybrid(
            envelope.source,
            envelope.file,
            session,
            shots=envelope.shots,
            parameters=envelope.parameters,
            remark=remarks.append,
        )
        final_result = _not_too_large(encode(result).decode())
    except (QslurmError, KeyboardInterrupt) as error:
        if process() != here:  # a process that the user's code has forked, and let come here
            end(FAILED)
        failure = _failure(error, envelope.file)
        session.conclude(failure=without_surrogates(str(failure))[:LONGEST_REASON])
        raise failure from error.__cause__
    if process() != here:
        end(0)
    if not session.executions:
        output.complain("the hybrid file executed no circuit.")
    for remark in remarks:
        output.complain(remark)
    session.conclude(final_result=final_result, remark=" ".join(remarks))
    return final_result


def _failure(error: QslurmError | KeyboardInterrupt, file: str) -> QslurmError:
    """The reason of a job that has none yet: somebody interrupted its file, or it said so itself."""
    if isinstance(error, QslurmError):
        return error
    return JobFailedError(f"{file} was interrupted before it had a result.")


def _not_too_large(final_result: str) -> str:
    if len(final_result) > LARGEST_RESULT:
        raise JobFailedError(
            f"The final result has {len(final_result) / 2**20:.1f} MiB; the limit is {LARGEST_RESULT // 2**20} MiB.",
            hint="Return less, or write the rest to a file.",
        )
    return final_result


def _which_job(script_path: Path) -> tuple[int, int]:
    try:
        return int(os.environ["SLURM_JOB_ID"]), int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    except (KeyError, ValueError) as error:
        raise InvalidInputError(
            f"{script_path} is a job step, and this is not a Slurm job: SLURM_JOB_ID is not set.",
            hint="Submit it with qslurm submit, or run the circuit or hybrid file with qslurm run.",
        ) from error
