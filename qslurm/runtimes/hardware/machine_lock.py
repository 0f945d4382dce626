"""The hold on a hardware server: its lock is taken, kept for a while, and given back whatever happens."""

from __future__ import annotations

import itertools
import json
import logging
import time
import uuid
from typing import TYPE_CHECKING, Any, NoReturn

from qslurm.errors import QslurmError
from qslurm.runtimes.hardware.command_link import HardwareLink, SilentError
from qslurm.runtimes.hardware.messages import PROTOCOL_VERSION, ExecutePayload, HardwareRefusedError, Static
from qslurm.runtimes.hardware.session_guard import HardwareGuardSettings
from qslurm.runtimes.hardware.status_stream import StatusStream
from qslurm.runtimes.health import Health, RetryDelay, TryLaterError
from qslurm.runtimes.machine_result import InvalidReplyError, MachineResult
from qslurm.system.guard import Guard

if TYPE_CHECKING:
    from qslurm.runtimes.hardware.hardware_options import HardwareOptions

log = logging.getLogger(__name__)

_STALE_LOCK = 3
"""A lock that is published so often while this process holds none is a dead client's."""
_REST_S = 0.01
_DYNAMIC_LIMIT = 64 * 1024  # characters


class MachineLock:
    """One server, as far as this process knows it. Nothing is asked of it before the first `look`."""

    def __init__(self, options: HardwareOptions, execute_timeout_s: float) -> None:
        import zmq

        host = f"[{options.host}]" if ":" in options.host else options.host
        commands = f"tcp://{host}:{options.command_port}"
        self.static: Static | None = None
        self.dynamic = ""
        """What `get_dynamic` gave last, as JSON."""
        self._options = options
        self._execute_timeout_s = execute_timeout_s
        # The guard is started before there is any ZeroMQ thread, and waits for a circuit that is being executed.
        charge = HardwareGuardSettings(commands, execute_timeout_s + options.reply_timeout_s)
        self._guard = Guard("qslurm.runtimes.hardware.session_guard", charge)
        self._context = zmq.Context()
        self._context.setsockopt(zmq.IPV6, 1)
        self._link = HardwareLink(self._context, commands)
        self._stream = StatusStream(
            self._context,
            f"tcp://{host}:{options.status_port}",
            options.heartbeat_s * options.missed_heartbeats,
        )
        self._session = ""  # while the lock is held, or may be
        self._begun = self._used = 0.0
        self._retry_delay = RetryDelay("the hardware")
        self._jobs = itertools.count(1)
        self._stale_dynamic = True

    # --- how it is -----------------------------------------------------------------------------------

    def look(self) -> Health:
        """Look after the server, and say how it is. While it is in trouble, each look may take a reply's time."""
        self._guard.look()
        health = self._stream.listen()
        self._stale_dynamic |= health.state == "calibrating"
        if health.state == "offline":
            return health
        if self._retry_delay.error or self.static is None:
            return self._recover(health)
        try:
            self._give_back_in_time()
            if self._has_stale_lock():
                self._end_session(str(uuid.uuid4()))
            if self._stale_dynamic and health.state != "calibrating":
                self._ask_dynamic()
        except (SilentError, InvalidReplyError) as error:
            return self._in_trouble(error.message)
        if health.state == "calibrating" and self._options.interrupt_calibration:
            return Health("idle")
        return health

    def _recover(self, health: Health) -> Health:
        if not self._retry_delay.is_over():
            return health if health.state == "calibrating" else self._retry_delay.health()
        try:
            # First a question that changes nothing: once it is answered, no earlier one is still on its way.
            self.static = self._ask(Static, "get_static")
            if self.static.protocol_version != PROTOCOL_VERSION:
                version, self.static = self.static.protocol_version, None
                return self._in_trouble(f"it speaks protocol version {version} instead of {PROTOCOL_VERSION}")
            if self._session:
                self._end_session(self._session)
        except QslurmError as error:
            return self._in_trouble(error.message)
        self._retry_delay.error = ""
        return health

    def _in_trouble(self, why: str) -> Health:
        if why != self._retry_delay.error:
            log.warning("hardware error: %s", why)
        self._retry_delay.fail(why)
        return self._retry_delay.health()

    def _has_stale_lock(self) -> bool:
        heard = self._stream.heard
        held = heard.state == "EXECUTING" and heard.times >= _STALE_LOCK
        return self._options.exclusive and not self._session and held

    # --- executing -----------------------------------------------------------------------------------

    def execute(self, circuit: str, shots: int, *, raw_data: bool) -> MachineResult:
        """ExecutePayload a circuit, within a session that is begun if there is none.

        HardwareRefusedError if the server refuses the circuit; TryLaterError if it can't execute any now, or
        the outcome is lost.
        """
        self._try_later_unless_ready()
        old = bool(self._session)
        self._begin()
        try:
            return self._execute(circuit, shots, raw_data)
        except HardwareRefusedError:
            if not old:
                self._try_later_if_away()
                raise
        # The session may have been lost, when the server was started anew; a fresh one tells.
        self.end()
        self._begin()
        try:
            return self._execute(circuit, shots, raw_data)
        except HardwareRefusedError:
            self._try_later_if_away()
            raise

    def lost(self, why: str) -> NoReturn:
        """The outcome of the last execution is worth nothing; leave the server alone until it has recovered."""
        self._in_trouble(why)
        raise TryLaterError(f"The hardware did not execute the circuit: {why}.", begun=True)

    def _try_later_unless_ready(self) -> None:
        """Look once more: jobs that keep a runtime busy leave no time for `look`."""
        if self._retry_delay.error:
            raise TryLaterError(f"Hardware error: {self._retry_delay.error}.", begun=False)
        if self._session and time.monotonic() > self._begun + self._options.session_limit_s:
            self.end()
            self._rest()
        health = self._stream.listen()
        if not health.ready and not (health.state == "calibrating" and self._options.interrupt_calibration):
            raise TryLaterError(f"The hardware is {health.state} ({health.reason}).", begun=False)

    def _rest(self) -> None:
        """Wait until the machine has said what it does without a session: it may want to calibrate."""
        end = time.monotonic() + self._options.heartbeat_s
        while self._stream.heard.times == 0 and time.monotonic() < end:
            time.sleep(_REST_S)
            self._stream.listen()

    def _begin(self) -> None:
        if self._session:
            return
        session = str(uuid.uuid4())
        self._guard.note(session)
        self._session = session
        try:
            self._ask(object, "initialize", timeout_s=self._options.initialize_timeout_s)
        except HardwareRefusedError as error:
            if not self._options.exclusive:
                self._forget()  # a terminate might end another client's session
            self._in_trouble(f"it cannot be initialised: {error.message}")
            raise TryLaterError(f"Cannot initialise the hardware: {error.message}.", begun=False) from error
        except (SilentError, InvalidReplyError) as error:
            self._in_trouble(error.message)
            raise TryLaterError(f"Cannot initialise the hardware: {error.message}.", begun=False) from error
        self._begun = self._used = time.monotonic()

    def _execute(self, circuit: str, shots: int, raw_data: bool) -> MachineResult:
        job = ExecutePayload(next(self._jobs), circuit, shots, raw_data)
        try:
            executed = self._link.ask(
                MachineResult, self._session, "execute", job,
                timeout_s=self._execute_timeout_s, given_up=self._is_gone,
            )  # fmt: skip
            self._retry_delay = RetryDelay("the hardware")
            return executed
        except (SilentError, InvalidReplyError) as error:
            self.lost(error.message)
        finally:
            self._used = time.monotonic()

    def _is_gone(self) -> str:
        health = self._stream.listen()
        return f"it went offline ({health.reason})" if health.state == "offline" else ""

    def _try_later_if_away(self) -> None:
        health = self._stream.listen()
        if not health.ready:
            raise TryLaterError(f"The hardware went {health.state} ({health.reason}).", begun=True)

    # --- ending --------------------------------------------------------------------------------------

    def end(self) -> None:
        """Give the lock back. A refusal means that there is none."""
        if self._session:
            try:
                self._end_session(self._session)
            except (SilentError, InvalidReplyError) as error:
                self._in_trouble(error.message)
                raise TryLaterError(
                    f"The hardware did not terminate a session: {error.message}.", begun=False
                ) from error

    def close(self) -> None:
        """Give back what is held; what can't be given back is the guard's to try."""
        try:
            self.end()
        except TryLaterError as error:
            log.warning("%s", error)
        self._link.close()
        self._stream.close()
        self._context.term()
        self._guard.close()

    def _give_back_in_time(self) -> None:
        now, options = time.monotonic(), self._options
        unused = now > self._used + options.release_after_s
        if self._session and (unused or now > self._begun + options.session_limit_s):
            self._end_session(self._session)

    def _end_session(self, session: str) -> None:
        try:
            self._link.ask(object, session, "terminate", timeout_s=self._options.reply_timeout_s)
        except HardwareRefusedError as error:
            log.info("no session to terminate: %s", error)
        self._stream.heard.times = 0
        self._forget()

    def _forget(self) -> None:
        self._session = ""
        self._guard.note("")

    def _ask_dynamic(self) -> None:
        self._stale_dynamic = False
        try:
            facts = self._ask(Any, "get_dynamic")
        except HardwareRefusedError as error:
            log.info("cannot read the hardware's dynamic data: %s", error)
            return
        text = json.dumps(facts)
        self.dynamic = text if len(text) <= _DYNAMIC_LIMIT else ""

    def _ask(self, kind: Any, command: Any, *, timeout_s: float = 0.0) -> Any:
        limit = timeout_s or self._options.reply_timeout_s
        return self._link.ask(kind, self._session or str(uuid.uuid4()), command, timeout_s=limit)
