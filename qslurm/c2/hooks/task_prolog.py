"""TaskProlog and TaskEpilog, which run on the node as the job's user: ask the dispatcher whether a batch script may
begin, and report that it has ended.

If slurmctld is killed after it has launched a job and before it has saved that, it launches the job again or has lost
it, and neither it nor slurmd knows that the script has run. The dispatcher does.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from qslurm.errors import NotReadyError, QslurmError, UnreachableError

if TYPE_CHECKING:
    from qslurm.c2.config.dispatcher_section import DispatcherConfig
    from qslurm.wire.credentials import Identity

RUN, DO_NOT_RUN = 0, 3
"""TaskProlog's exit codes; a non-zero code makes only this job fail."""

ADMISSION_S = 30.0
"""Seconds after its launch within which the dispatcher admits a job, or never."""

AWAY_S = 3600.0
"""Seconds that a script waits for the dispatcher; then its job fails, unless Slurm's time limit ends it earlier."""

ANSWER_S = 5.0
PAUSE_S = 0.5
REPORT_S = 30.0


def may_begin(
    config: DispatcherConfig,
    environment: Mapping[str, str] | None = None,
    *,
    say: Callable[[str], None] = print,
    identity: Identity | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    timeout_s: float = ANSWER_S,
) -> int:
    """The exit code for TaskProlog: 0 if the batch script of the job in the environment may run.

    Waits up to AWAY_S for a dispatcher that does not answer. Messages appear in the job's output, where slurmd prints
    what follows "print" in TaskProlog's output.
    """
    from qslurm.protocol.dispatcher_client import DispatcherClient
    from qslurm.protocol.messages import Begin, Pending

    job_id, restart = _which(environment)
    question = Begin(job_id=job_id, restart=restart, launch=secrets.token_hex(16))
    began, shown = clock(), ""
    socket, munge = config.socket, config.munge_socket
    with DispatcherClient(socket, munge_socket=munge, identity=identity, timeout_s=timeout_s) as client:
        while True:
            try:
                answer = client.ask(question)
                if not isinstance(answer, Pending):
                    return RUN
                why, limit_s = f"{answer.reason}.", AWAY_S
            except UnreachableError as error:
                why, limit_s = error.message, AWAY_S
            except QslurmError as error:
                why, limit_s = error.message, ADMISSION_S if error.kind == NotReadyError.kind else 0.0
            if clock() - began >= limit_s:
                say(f"print qslurm: {why}")
                return DO_NOT_RUN
            if why != shown:
                say(f"print qslurm: waiting: {why}")
                shown = why
            sleep(PAUSE_S)


def has_ended(
    config: DispatcherConfig,
    environment: Mapping[str, str] | None = None,
    *,
    identity: Identity | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Report to the dispatcher that the batch script of the job in the environment has ended; always 0.

    Waits up to REPORT_S for the dispatcher: without the report a slurmctld that is killed now could run the script
    again.
    """
    from qslurm.protocol.dispatcher_client import DispatcherClient
    from qslurm.protocol.messages import End, Pending

    job_id, restart = _which(environment)
    end = End(job_id=job_id, restart=restart, ended_at=time.time())
    until = time.monotonic() + REPORT_S
    with DispatcherClient(config.socket, munge_socket=config.munge_socket, identity=identity) as client:
        while time.monotonic() < until:
            try:
                if not isinstance(client.ask(end), Pending):
                    break
            except UnreachableError:
                pass
            except QslurmError:  # the dispatcher does not know this job
                break
            sleep(PAUSE_S)
    return 0


def _which(environment: Mapping[str, str] | None) -> tuple[int, int]:
    names = os.environ if environment is None else environment
    try:
        return int(names["SLURM_JOB_ID"]), int(names.get("SLURM_RESTART_COUNT") or "0")
    except (KeyError, ValueError) as error:
        raise QslurmError(
            f"Not called as a TaskProlog: {error}.", hint="Set it as TaskProlog in slurm.conf; see deploy/c2."
        ) from error
