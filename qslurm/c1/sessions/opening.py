"""Opens a session: submits the job that holds it, waits for its start, and connects."""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qslurm.c1.sessions.connect import SessionEndedError, SessionNotOpenError, SessionServerAddress
from qslurm.c1.sessions.reconnecting_connection import LINK_LIMIT_S
from qslurm.c1.sessions.session_client import SessionClient
from qslurm.c1.submission.backend_limits import LimitsLookup, check_limits, limits_of, no_limits
from qslurm.c1.submission.prepare import backend_of
from qslurm.errors import (
    InvalidInputError,
    KeptError,
    NotReadyError,
    QslurmError,
    RefusedError,
    TimedOutError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.payload.spec import JobSpec, job_options
from qslurm.protocol.session_frames import SECRET_BYTES

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.submission.sending import Batch
    from qslurm.slurm.job_info import JobInfo

IDLE_LIMIT_S = 60.0

CONNECT_LIMIT_S = 45.0
"""Seconds to try connecting once the job runs; C2 waits for a minute."""

_POLL_S = 5.0  # maximum seconds between two polls of the pending job; an agent reports its start
_POSITION_S = 60.0  # seconds between two reads of the queue position


@dataclass(frozen=True)
class SessionOptions:
    """Options of a session: its job, whose backend is selected as for others.

    `idle_limit_s`: maximum seconds without a request. `wait_limit_s`: maximum seconds to wait for its start.
    """

    job: JobSpec
    idle_limit_s: float = IDLE_LIMIT_S
    wait_limit_s: float | None = None


@dataclass(frozen=True)
class OpenSession:
    """An open session and its job on C2."""

    job_id: int
    client: SessionClient


class _StartDeadline:
    """Deadline for the session's start; None for no limit."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self.until = math.inf if seconds is None else time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Remaining seconds."""
        return max(0.0, self.until - time.monotonic())

    def over(self, why: str) -> TimedOutError:
        """The error when the deadline passes, with the reason."""
        return TimedOutError(
            f"The session has not started after {self._seconds:g} s: {why.rstrip('.')}.",
            hint="Use a longer wait limit, or another backend.",
        )


def open_session(
    center: CenterConnection, options: SessionOptions, environ: Mapping[str, str], say: Callable[[str], None]
) -> OpenSession:
    """Submit the job, wait for the session, and connect. `say` reports progress.

    The session uses `center` from now on, in another thread, to query its job. After any error the job is cancelled.
    RefusedError if C2 offers no sessions; TimedOutError after `wait_limit_s` (a request in progress may take its
    `timeout_s`).
    """
    deadline = _StartDeadline(options.wait_limit_s)
    server = find_session_server(center)
    secret = secrets.token_bytes(SECRET_BYTES)
    batch = batch_of(center.config, options, hashlib.sha256(secret).hexdigest(), environ, limits_of(center))
    if options.wait_limit_s is not None:
        center.set_outbox_timeout(deadline.left_s)
    try:
        job_id = batch.send_whole(center).job_id
    except KeptError as error:
        _cancel_if_taken(center, batch.packages[0].payload, say)
        raise deadline.over(error.message) from error
    except (KeyboardInterrupt, SystemExit):  # C2 may have the job already
        _cancel_if_taken(center, batch.packages[0].payload, say)
        raise
    try:
        say(f"Submitted job {center.prefix}{job_id} to C2 to hold the session.")

        def connect() -> SessionClient:
            return SessionClient(
                server.connect,
                secret,
                say=say,
                ended=lambda: ended(center, job_id),
                seed=options.job.seed,
                link_limit_s=max(LINK_LIMIT_S, 2 * options.idle_limit_s),
            )

        while True:
            _wait(center, job_id, deadline, say)
            client = _connect(connect, lambda: _look(center, job_id), server.address, deadline)
            if client is not None:
                return OpenSession(job_id, client)
    except BaseException:
        _cancel(center, job_id, say)
        raise


def find_session_server(center: CenterConnection) -> SessionServerAddress:
    """Address and certificate of C2's session server; RefusedError if it offers no sessions."""
    try:
        document = center.job_manager.sessions()
    except UnknownJobError:  # an older job manager
        document = {}
    if not document.get("address"):
        raise RefusedError(
            "This C2 does not offer sessions to other clusters.",
            hint="Its operators can enable them ([sessions] in c2.toml). `qslurm submit` runs the whole file on C2.",
        )
    return SessionServerAddress(
        str(document["address"]), str(document.get("certificate", "")), center.config.c2.proxy
    )


def batch_of(
    config: Config,
    options: SessionOptions,
    digest: str,
    environ: Mapping[str, str],
    limits: LimitsLookup = no_limits,
) -> Batch:
    """The job, ready to be sent; InvalidInputError if an option is invalid."""
    from qslurm.c1.submission.sending import Batch

    for name, seconds in (("idle_limit_s", options.idle_limit_s), ("wait_limit_s", options.wait_limit_s)):
        if seconds is not None and not (0 < seconds <= 1e9 and math.isfinite(seconds)):
            raise InvalidInputError(f"Invalid {name} {seconds}. Use a positive number of seconds.")
    # a file's other options are for the file, which runs in this process
    fields = {one.field: getattr(options.job, one.field) for one in job_options("python session").values()}
    job = JobSpec(
        **fields,
        kind="session",
        file=Path("session"),
        source="",
        comment=options.job.comment,
        session=digest,
        idle_limit_s=options.idle_limit_s,
    )
    check_limits(limits, backend_of(config, job), job.name or "", qubits=None, shots=options.job.shots)
    return Batch(config, [job], environ)


def _wait(
    center: CenterConnection, job_id: int, deadline: _StartDeadline, say: Callable[[str], None]
) -> None:
    """Wait until the job runs; its outcome, if it has ended."""
    from qslurm.c1.connection.polling import PATIENCE_S, next_delay

    began = answered_at = time.monotonic()
    last_reason, position, position_read_at = "", 0, float("-inf")
    reported: list[JobInfo] | None = None
    while True:
        now = time.monotonic()
        info = None
        try:
            info = _look(center, job_id, reported)
            answered_at = now
            if info.word == "running":
                return
            if now - position_read_at > _POSITION_S:
                position, position_read_at = _position(center, info), now
            why = _why(info, position)
        except UnreachableError as error:
            if now - answered_at > PATIENCE_S:
                raise
            why = error.message
        if why != last_reason:
            last_reason = why
            say(f"Waiting: {why.rstrip('.')}.")
        if not deadline.left_s:
            raise deadline.over(why)
        reported = center.wait_for_change(min(next_delay(now - began), _POLL_S, deadline.left_s), info)


def _look(center: CenterConnection, job_id: int, reported: Sequence[JobInfo] | None = None) -> JobInfo:
    """The job while it is open; its outcome, if it has ended."""
    from qslurm.c1.queries import job_state

    info = job_state.judge(center, reported[0]) if reported else job_state.look(center, job_id)
    if info.is_final:
        raise job_state.outcome_error(center, info) or SessionEndedError(
            "The session ended before this client connected."
        )
    return info


def _why(info: JobInfo, position: int) -> str:
    if info.word != "waiting":
        return f"{info.word}{f', {info.why}' if info.why else ''}"
    queued = f"queue position {position}" if position else ""
    return ", ".join(part for part in (info.why, queued) if part) or "Slurm has not considered it yet"


def _position(center: CenterConnection, info: JobInfo) -> int:
    """The job's queue position, if available."""
    from qslurm.protocol.partition_queue import queue_positions

    if info.word != "waiting":
        return 0
    try:
        return queue_positions(center.slurm.jobs()).get(info.job_id, 0)
    except UnreachableError:
        return 0  # unknown


def _connect(
    connect: Callable[[], SessionClient], look: Callable[[], JobInfo], address: str, deadline: _StartDeadline
) -> SessionClient | None:
    """Connect once the job's step holds the session; None if the job was requeued.

    `look` raises the job's outcome if it has ended.
    """
    until = time.monotonic() + CONNECT_LIMIT_S
    why, pause = "", 0.05
    while True:
        try:
            return connect()
        except SessionNotOpenError:
            why = "C2 has not started the session yet"  # the job's step is about to start it
        except UnreachableError as error:
            why = error.message.rstrip(".")
        except OSError as error:
            why = error.strerror or str(error)
        if not deadline.left_s:
            raise deadline.over(why)
        if time.monotonic() > until:
            raise UnreachableError(
                f"C2 holds the session, but its session server at {address} is unreachable: {why}.",
                hint="Check that this node can reach it through any firewall, or set proxy in the configuration.",
            )
        time.sleep(pause)
        pause = min(2 * pause, 1.0)
        try:
            if look().word == "waiting":
                return None
        except UnreachableError:
            continue  # only the session server matters now


def ended(center: CenterConnection, job_id: int) -> QslurmError | None:
    """How a session's job ended (SessionEndedError: normally); None while it runs."""
    from qslurm.c1.queries import job_state

    info = job_state.look(center, job_id)
    if not info.is_final:
        return None
    return job_state.outcome_error(center, info) or SessionEndedError(
        "The session has ended.", hint="Open a new session."
    )


def _cancel_if_taken(
    center: CenterConnection, payload: Mapping[str, Any], say: Callable[[str], None]
) -> None:
    """Cancel the job being submitted when the wait is interrupted."""
    from qslurm.c1.queries.job_state import with_key
    from qslurm.payload.comment import Comment

    try:
        job_id = with_key(center, Comment.parse(payload["job"]["comment"]).key)
    except (UnknownJobError, NotReadyError):
        return  # C2 has not taken it
    except QslurmError as error:
        say(f"It is unknown whether C2 has the session's job; if so, its idle limit ends it. {error.message}")
        return
    _cancel(center, job_id, say)


def _cancel(center: CenterConnection, job_id: int, say: Callable[[str], None]) -> None:
    try:
        center.slurm.cancel(job_id)
    except QslurmError as error:
        say(f"Job {center.prefix}{job_id} could not be cancelled; its idle limit ends it. {error.message}")
