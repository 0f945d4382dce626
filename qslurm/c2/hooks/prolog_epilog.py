"""C2's PrologSlurmctld and EpilogSlurmctld, which slurmctld runs when a job starts and ends.

They run as SlurmUser on the controller, for every job. Exit codes, measured with Slurm 22.05: a prolog that exits 1
requeues the job, which is not held, and does not drain the node. slurmctld kills the prolog of a job that is cancelled
and ignores its exit code. An epilog's exit code is only logged. If slurmctld stops while a prolog runs, it runs the
prolog again later.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import msgspec

from qslurm.c2.config.file import C2Config, backend_of
from qslurm.c2.hooks.gate_notifier import ENDED, notify
from qslurm.c2.hooks.job_start import JobStart, UnrunnableJobError, admit_request, read_start, with_marks
from qslurm.c2.hooks.spool import EndedJob, Spool, TurnedAwayJob
from qslurm.c2.hooks.start_outcome import finish_message, finish_of
from qslurm.c2.slurm_commands import SlurmCommands
from qslurm.errors import QslurmError
from qslurm.protocol.messages import Message, NotAdmitted
from qslurm.system.logfmt import Field

SLURM_TIMEOUT_S = 3.0
"""Time limit of a Slurm command inside a hook."""

SPARE_S = 8.0
"""Seconds a hook may take in addition to the dispatcher's answer. PrologEpilogTimeout must exceed their sum."""

RUN, REQUEUE = 0, 1
"""A prolog's exit codes."""


@dataclass(frozen=True)
class Hook:
    """A prolog or epilog (`part`) for one start of a job."""

    part: str
    config: C2Config
    start: JobStart
    spool: Spool
    slurm: SlurmCommands

    @property
    def center(self) -> str:
        """The job's center."""
        return self.start.user.removeprefix(self.config.slurm.user_prefix)

    def say(self, event: str, *, level: str = "info", **fields: Field) -> None:
        """Write a line about this job to the hooks' log."""
        start = self.start
        about: dict[str, Field] = {
            "job": start.job_id,
            "restart": start.restart,
            "center": self.center,
            "user": start.user,
            "partition": start.partition,
        }
        self.spool.log(self.part, event, about | fields, level=level)


def _hook(part: str, config: C2Config, start: JobStart) -> Hook:
    return Hook(
        part, config, start, Spool(config.gate.state), SlurmCommands(config.slurm, timeout_s=SLURM_TIMEOUT_S)
    )


def prolog(config: C2Config, environment: Mapping[str, str] | None = None) -> int:
    """Admit the job in the environment; returns the exit code for slurmctld: 0 to start it, 1 to requeue it.

    A job that can never run is cancelled, with the reason in its AdminComment. For any other error the job is
    requeued, and the gate starts it when the platform is back.
    """
    start = read_start(os.environ if environment is None else environment)
    if not backend_of(start.partition):
        return RUN
    try:
        return _prolog(config, start)
    finally:
        notify(config.gate.state)


def _prolog(config: C2Config, start: JobStart) -> int:
    began = time.monotonic()
    hook = _hook("prolog", config, start)
    limit_s = config.gate.admit_timeout_s + SPARE_S
    set_time_limit(
        limit_s, lambda: _record_requeue(hook, f"the prolog exceeded its time limit of {limit_s:g} s")
    )
    try:
        start = _marked(hook.slurm, start)
        admit = admit_request(start, hook.slurm.batch_script(start.job_id), config)
        answer = _ask(config, admit)
    except UnrunnableJobError as error:
        return _cancel(hook, error.message)
    except QslurmError as error:
        return _requeue(hook, error.message)
    except OSError as error:
        return _requeue(hook, str(error))
    if isinstance(answer, NotAdmitted):
        return _requeue(hook, answer.reason) if answer.retry else _cancel(hook, answer.reason)
    hook.say("admitted", kind=admit.kind, ms=_ms(began))
    return RUN


def epilog(config: C2Config, environment: Mapping[str, str] | None = None) -> int:
    """Report to the dispatcher that a start of a job has ended. Always 0: the gate reports later what fails now.

    It also runs for starts that were not admitted (slurmctld runs it after a failed prolog); the dispatcher ignores
    those.
    """
    start = read_start(os.environ if environment is None else environment)
    if not backend_of(start.partition):
        return 0
    try:
        return _epilog(config, start)
    finally:
        notify(config.gate.state)
        notify(config.gate.state, ENDED)


def _epilog(config: C2Config, start: JobStart) -> int:
    began = time.monotonic()
    hook = _hook("epilog", config, start)
    with suppress(QslurmError, OSError):  # _how_it_ended meets the same error and reports it
        start = _marked(hook.slurm, start)
    ended = EndedJob(
        job_id=start.job_id,
        restart=start.restart,
        when=_called_at(),
        key=start.comment.key,
        center=hook.center,
    )
    set_time_limit(config.gate.admit_timeout_s + SPARE_S, lambda: hook.spool.put(ended))
    try:
        ended = _how_it_ended(hook.slurm, start, ended)
        if ended.state:
            _ask(config, finish_message(ended))
            hook.say("ended", state=ended.state, start=ended.restart, ms=_ms(began))
            return 0
        why = "Slurm does not report how it ended"
    except QslurmError as error:
        why = error.message
    except OSError as error:
        why = str(error)
    try:
        hook.spool.put(ended)
        hook.say("ended; the gate will tell the dispatcher", level="warning", why=why)
    except QslurmError as error:
        hook.say("ended; the dispatcher was not told", level="error", why=f"{why} {error}")
    return 0


def _how_it_ended(slurm: SlurmCommands, start: JobStart, ended: EndedJob) -> EndedJob:
    # queried first: if the script ends between the two queries, the second one has its exit code
    is_script_running = slurm.is_script_running(start.job_id, start.slurm_id)
    finish = finish_of(start.job_id, start.restart, ended.key, slurm.job(start.job_id), time.time())
    if finish is None:
        return ended
    if finish.state == "COMPLETED" and is_script_running:
        finish = msgspec.structs.replace(finish, state="CANCELLED")
    return msgspec.structs.replace(
        ended,
        restart=finish.restart,
        state=finish.state,
        exit_code=finish.exit_code,
        reason=finish.reason,
        reason_code=finish.reason_code,
        ended_at=finish.ended_at,
    )


def _called_at() -> float:
    """When slurmctld started this process (Unix seconds): on a busy host Python runs seconds later."""
    words = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    up_s = int(words[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - up_s)


def _marked(slurm: SlurmCommands, start: JobStart) -> JobStart:
    """The start with its submission's key, also if the job's comment was overwritten."""
    return start if start.comment.key else with_marks(start, slurm.marks(start.job_id))


def _ask(config: C2Config, message: Message) -> Message:
    from qslurm.protocol.dispatcher_client import DispatcherClient

    socket, munge = config.dispatcher.socket, config.dispatcher.munge_socket
    with DispatcherClient(socket, munge_socket=munge, timeout_s=config.gate.admit_timeout_s) as client:
        return client.ask(message)


def _requeue(hook: Hook, reason: str) -> int:
    """Exit 1, with a record for the gate. Turns requeue on first: slurmctld cancels a job that has it off."""
    _record_requeue(hook, reason)
    try:
        hook.slurm.update_job(hook.start.slurm_id, Requeue="1")
    except QslurmError as error:
        hook.say("it may be lost if it was submitted with --no-requeue", level="warning", why=str(error))
    return REQUEUE


def _record_requeue(hook: Hook, reason: str) -> None:
    start = hook.start
    try:
        before = hook.spool.turned_away_job(start.job_id)
        times = before.times + 1 if before is not None and before.restart < start.restart else 1
        hook.spool.put(
            TurnedAwayJob(
                job_id=start.job_id,
                slurm_id=start.slurm_id,
                restart=start.restart,
                partition=start.partition,
                when=time.time(),
                times=times,
                reason=reason,
                center=hook.center,
            )
        )
    except QslurmError as error:
        # Without the record slurmctld starts the job again after two minutes.
        hook.say("cannot write a record for the gate", level="error", why=str(error))
    hook.say("requeued", level="warning", why=reason)


def _cancel(hook: Hook, reason: str) -> int:
    """Cancel the job with a reason for its user. slurmctld kills this process when it cancels, so that comes last."""
    hook.say("cancelled", why=reason)
    try:
        hook.slurm.update_job(hook.start.slurm_id, AdminComment=f"qslurm: {reason}"[:1000])
    except (
        QslurmError
    ) as error:  # slurmctld may wait for slurmdbd here; the dispatcher has the reason as well
        hook.say("cannot set AdminComment", level="warning", why=error.message)
    try:
        hook.slurm.cancel(hook.start.slurm_id)
    except QslurmError as error:
        return _requeue(hook, f"cannot cancel the job: {error}")
    return RUN


def set_time_limit(limit_s: float, at_limit: Callable[[], None]) -> None:
    """After `limit_s` seconds call `at_limit` and exit 1, whatever this process waits for: before Slurm kills it."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        try:
            at_limit()
        finally:
            os._exit(REQUEUE)

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)


def _ms(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
