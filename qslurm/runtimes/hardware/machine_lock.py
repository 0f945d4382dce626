"""The lock of a hardware server: taken for a session, kept for a while, and always released."""

from __future__ import annotations

import itertools
import json
import logging
import time
import uuid
from typing import TYPE_CHECKING, Any, NoReturn

from qslurm.errors import QslurmError
from qslurm.runtimes.hardware.command_link import HardwareLink, NoReplyError
from qslurm.runtimes.hardware.messages import PROTOCOL_VERSION, ExecutePayload, HardwareRefusedError, Static
from qslurm.runtimes.hardware.session_guard import HardwareGuardSettings
from qslurm.runtimes.hardware.status_stream import StatusStream
from qslurm.runtimes.health import Health, RetryDelay, TryLaterError
from qslurm.runtimes.machine_result import InvalidReplyError, MachineResult
from qslurm.system.guard_process import Guard

if TYPE_CHECKING:
    from qslurm.runtimes.hardware.hardware_options import HardwareOptions

log = logging.getLogger(__name__)

_STALE_LOCK = 3
"""A lock that is published this often while this process holds none is a dead client's."""
_STATUS_POLL_S = 0.01
_DYNAMIC_LIMIT = 64 * 1024  # characters


class MachineLock:
    """One server, as far as this process knows it. Nothing is sent before the first `check`."""

    def __init__(self, options: HardwareOptions, execute_timeout_s: float) -> None:
        import zmq

        host = f"[{options.host}]" if ":" in options.host else options.host
        commands = f"tcp://{host}:{options.command_port}"
        self.static: Static | None = None
        self.dynamic = ""
        """The last reply to `get_dynamic`, as JSON."""
        self._options = options
        self._execute_timeout_s = execute_timeout_s
        # The guard is started before any ZeroMQ thread. It waits for a circuit that is executing.
        settings = HardwareGuardSettings(commands, execute_timeout_s + options.reply_timeout_s)
        self.guard = Guard("qslurm.runtimes.hardware.session_guard", settings)
        self._context = zmq.Context()
        self._context.setsockopt(zmq.IPV6, 1)
        self._link = HardwareLink(self._context, commands)
        self._stream = StatusStream(
            self._context,
            f"tcp://{host}:{options.status_port}",
            options.heartbeat_s * options.missed_heartbeats,
        )
        self._session = ""  # "" if the lock is certainly not held
        self._session_since = self._last_used = 0.0
        self._retry_delay = RetryDelay("the hardware")
        self._jobs = itertools.count(1)
        self._dynamic_outdated = True

    # --- health --------------------------------------------------------------------------------------

    def check(self) -> Health:
        """Maintain the session and return the server's health. After an error this may take as long as a reply."""
        self.guard.ensure_running()
        health = self._stream.receive()
        self._dynamic_outdated |= health.state == "calibrating"
        if health.state == "offline":
            return health
        if self._retry_delay.error or self.static is None:
            return self._recover(health)
        try:
            self._end_session_if_due()
            if self._has_stale_lock():
                self._end_session(str(uuid.uuid4()))
            if self._dynamic_outdated and health.state != "calibrating":
                self._read_dynamic()
        except (NoReplyError, InvalidReplyError) as error:
            return self._note_error(error.message)
        if health.state == "calibrating" and self._options.interrupt_calibration:
            return Health("idle")
        return health

    def _recover(self, health: Health) -> Health:
        if not self._retry_delay.is_over():
            return health if health.state == "calibrating" else self._retry_delay.health()
        try:
            # First a command that changes nothing: its reply shows that no earlier command is still in progress.
            self.static = self._request(Static, "get_static")
            if self.static.protocol_version != PROTOCOL_VERSION:
                version, self.static = self.static.protocol_version, None
                return self._note_error(f"it speaks protocol version {version} instead of {PROTOCOL_VERSION}")
            if self._session:
                self._end_session(self._session)
        except QslurmError as error:
            return self._note_error(error.message)
        self._retry_delay.error = ""
        return health

    def _note_error(self, why: str) -> Health:
        if why != self._retry_delay.error:
            log.warning("hardware error: %s", why)
        self._retry_delay.fail(why)
        return self._retry_delay.health()

    def _has_stale_lock(self) -> bool:
        status = self._stream.status
        is_locked = status.state == "EXECUTING" and status.repeats >= _STALE_LOCK
        return self._options.exclusive and not self._session and is_locked

    # --- executing -----------------------------------------------------------------------------------

    def execute(self, circuit: str, shots: int, *, raw_data: bool) -> MachineResult:
        """Execute a circuit, in a session that is begun if there is none.

        Raises HardwareRefusedError if the server refuses the circuit; TryLaterError if it cannot execute any
        now, or the outcome is lost.
        """
        self._try_later_unless_ready()
        had_session = bool(self._session)
        self._begin_session()
        try:
            return self._execute(circuit, shots, raw_data)
        except HardwareRefusedError:
            if not had_session:
                self._try_later_if_not_ready()
                raise
        # The server may have lost the session in a restart: try the circuit in a new one.
        self.end_own_session()
        self._begin_session()
        try:
            return self._execute(circuit, shots, raw_data)
        except HardwareRefusedError:
            self._try_later_if_not_ready()
            raise

    def fail_execution(self, why: str) -> NoReturn:
        """Raise TryLaterError for an execution without a usable outcome, and leave the server alone until it
        has recovered.
        """
        self._note_error(why)
        raise TryLaterError(f"The hardware did not execute the circuit: {why}.", begun=True)

    def _try_later_unless_ready(self) -> None:
        """Check the server once more: jobs that keep a runtime busy leave no time for `check`."""
        if self._retry_delay.error:
            raise TryLaterError(f"Hardware error: {self._retry_delay.error}.", begun=False)
        if self._session and time.monotonic() > self._session_since + self._options.session_limit_s:
            self.end_own_session()
            self._wait_for_status()
        health = self._stream.receive()
        if not health.ready and not (health.state == "calibrating" and self._options.interrupt_calibration):
            raise TryLaterError(f"The hardware is {health.state} ({health.reason}).", begun=False)

    def _wait_for_status(self) -> None:
        """Wait for the status that the machine publishes without a session: it may want to calibrate."""
        until = time.monotonic() + self._options.heartbeat_s
        while self._stream.status.repeats == 0 and time.monotonic() < until:
            time.sleep(_STATUS_POLL_S)
            self._stream.receive()

    def _begin_session(self) -> None:
        if self._session:
            return
        session = str(uuid.uuid4())
        self.guard.note(session)
        self._session = session
        try:
            self._request(object, "initialize", timeout_s=self._options.initialize_timeout_s)
        except HardwareRefusedError as error:
            if not self._options.exclusive:
                self._clear_session()  # a terminate might end another client's session
            self._note_error(f"it cannot be initialised: {error.message}")
            raise TryLaterError(f"Cannot initialise the hardware: {error.message}.", begun=False) from error
        except (NoReplyError, InvalidReplyError) as error:
            self._note_error(error.message)
            raise TryLaterError(f"Cannot initialise the hardware: {error.message}.", begun=False) from error
        self._session_since = self._last_used = time.monotonic()

    def _execute(self, circuit: str, shots: int, raw_data: bool) -> MachineResult:
        job = ExecutePayload(next(self._jobs), circuit, shots, raw_data)
        try:
            executed = self._link.request(
                MachineResult, self._session, "execute", job,
                timeout_s=self._execute_timeout_s, abort_reason=self._offline_reason,
            )  # fmt: skip
            self._retry_delay = RetryDelay("the hardware")
            return executed
        except (NoReplyError, InvalidReplyError) as error:
            self.fail_execution(error.message)
        finally:
            self._last_used = time.monotonic()

    def _offline_reason(self) -> str:
        health = self._stream.receive()
        return f"it went offline ({health.reason})" if health.state == "offline" else ""

    def _try_later_if_not_ready(self) -> None:
        health = self._stream.receive()
        if not health.ready:
            raise TryLaterError(f"The hardware went {health.state} ({health.reason}).", begun=True)

    # --- ending --------------------------------------------------------------------------------------

    def end_own_session(self) -> None:
        """End the session. A refusal means that there is none."""
        if self._session:
            try:
                self._end_session(self._session)
            except (NoReplyError, InvalidReplyError) as error:
                self._note_error(error.message)
                raise TryLaterError(
                    f"The hardware did not terminate a session: {error.message}.", begun=False
                ) from error

    def close(self) -> None:
        """Release what is held; the guard tries whatever fails here."""
        try:
            self.end_own_session()
        except TryLaterError as error:
            log.warning("%s", error)
        self._link.close()
        self._stream.close()
        self._context.term()
        self.guard.close()

    def _end_session_if_due(self) -> None:
        now, options = time.monotonic(), self._options
        unused = now > self._last_used + options.release_after_s
        if self._session and (unused or now > self._session_since + options.session_limit_s):
            self._end_session(self._session)

    def _end_session(self, session: str) -> None:
        try:
            self._link.request(object, session, "terminate", timeout_s=self._options.reply_timeout_s)
        except HardwareRefusedError as error:
            log.info("no session to terminate: %s", error)
        self._stream.status.repeats = 0
        self._clear_session()

    def _clear_session(self) -> None:
        self._session = ""
        self.guard.note("")

    def _read_dynamic(self) -> None:
        self._dynamic_outdated = False
        try:
            facts = self._request(Any, "get_dynamic")
        except HardwareRefusedError as error:
            log.info("cannot read the hardware's dynamic data: %s", error)
            return
        text = json.dumps(facts)
        self.dynamic = text if len(text) <= _DYNAMIC_LIMIT else ""

    def _request(self, kind: Any, command: Any, *, timeout_s: float = 0.0) -> Any:
        limit = timeout_s or self._options.reply_timeout_s
        return self._link.request(kind, self._session or str(uuid.uuid4()), command, timeout_s=limit)
