"""What TaskProlog asks, on the node and as the job's user, before a batch script runs, and what TaskEpilog says after.

slurmctld may be killed after it has started a job and before it has written that down. It then starts the job again, or
does not know it any more, and neither it nor slurmd can tell that the script has run. The dispatcher can: it was told
when the script began, and when it ended.
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
"""TaskProlog's exit codes; with another than 0 the job fails, and nothing else happens."""

ADMISSION_S = 30.0
"""A job that the dispatcher has not admitted within this time since its launch was not admitted at all."""

AWAY_S = 3600.0
"""A script waits so long for a dispatcher that is away; then its job fails. Slurm's time limit may end it before."""

PAUSE_S = 0.5
TOLD_S = 30.0


def may_begin(
    config: DispatcherConfig,
    environment: Mapping[str, str] | None = None,
    *,
    say: Callable[[str], None] = print,
    identity: Identity | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """The exit code for TaskProlog: 0 when the batch script of the job in the environment may run now.

    While the dispatcher does not answer, the job waits, for AWAY_S: nobody else knows. What is said is in the job's
    output, since slurmd prints there what follows "print" in its TaskProlog's.
    """
    from qslurm.protocol.dispatcher_client import DispatcherClient
    from qslurm.protocol.messages import Begin, Pending

    job_id, restart = _which(environment)
    question = Begin(job_id=job_id, restart=restart, launch=secrets.token_hex(16))
    began, said = clock(), ""
    with DispatcherClient(config.socket, munge_socket=config.munge_socket, identity=identity) as client:
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
            if why != said:
                say(f"print qslurm: waiting: {why}")
                said = why
            sleep(PAUSE_S)


def has_ended(
    config: DispatcherConfig,
    environment: Mapping[str, str] | None = None,
    *,
    identity: Identity | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Tell the dispatcher that the batch script of the job in the environment has ended; always 0.

    While the dispatcher does not answer, the job's end waits for TOLD_S: without this a slurmctld that is killed now
    could start the script again.
    """
    from qslurm.protocol.dispatcher_client import DispatcherClient
    from qslurm.protocol.messages import End, Pending

    job_id, restart = _which(environment)
    end = End(job_id=job_id, restart=restart, ended_at=time.time())
    until = time.monotonic() + TOLD_S
    with DispatcherClient(config.socket, munge_socket=config.munge_socket, identity=identity) as client:
        while time.monotonic() < until:
            try:
                if not isinstance(client.ask(end), Pending):
                    break
            except UnreachableError:
                pass
            except QslurmError:  # it has nothing to do with this job
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
