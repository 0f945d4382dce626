"""A session in the Python API: the `qi` of a loop that runs in this process, while C2 holds a backend for it."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qslurm.c1.sessions.termination import TerminatedError, TerminationSignals
from qslurm.errors import InvalidInputError, QslurmError, TimedOutError
from qslurm.runtimes.interface import ExecuteCircuitResult, Outcome, QuantumInterface, as_circuit

if TYPE_CHECKING:
    from qslurm.c1.sessions.session_client import SessionClient

LEAVE_S = 600.0
"""Seconds without an outcome after which leaving a session's block gives up on pending circuits."""

LONGEST_REASON = 4000
"""Maximum characters of a failure reason."""


class Session(QuantumInterface):
    """A `qi` as hybrid files get it, for a loop in this process. `Center.session` and `Session.current` make them.

    Thread-safe. As a context manager it waits at the end of the block for pending circuits, and ends the session; if
    the block raises, or if a SIGTERM or SIGHUP without a handler ends the program (in the main thread), it ends the
    session at once, as failed.
    `job_id` is the job on C2 that holds the session (0 if another process opened it). `final_result` is stored as the
    job's result, with its `remarks`.
    """

    def __init__(
        self,
        client: SessionClient,
        job_id: int = 0,
        *,
        on_close: Callable[[], None] = lambda: None,
        parameters: Mapping[str, str] | None = None,
        leave_s: float = LEAVE_S,
        signals: TerminationSignals | None = None,
    ) -> None:
        super().__init__(client, parameters)
        self._leave_s = leave_s
        self.job_id = job_id
        self.final_result: Mapping[str, Any] | None = None
        self.remarks: list[str] = []
        self._client = client
        self._on_close = on_close
        self._closed = False
        self._signals = signals or TerminationSignals()
        self._pending: set[Future[ExecuteCircuitResult]] = set()
        self._lock = threading.Lock()

    @property
    def transport(self) -> SessionClient:
        """The session's client, for running a hybrid file with it."""
        return self._client

    @property
    def executions(self) -> int:
        """The number of circuits submitted."""
        return self._client.executions

    @classmethod
    def current(cls) -> Session:
        """The session of the command that started this process, `qslurm session … -- COMMAND`.

        InvalidInputError if there is none. Leaving its block does not end the session; it ends with the command.
        """
        from qslurm.c1.sessions.connect import connect_unix
        from qslurm.c1.sessions.session_client import SessionClient
        from qslurm.c1.sessions.sharing import VARIABLE
        from qslurm.protocol.session_frames import SECRET_BYTES

        path = os.environ.get(VARIABLE, "")
        if not path:
            raise InvalidInputError(
                "This process has no session.",
                hint="Start it with `qslurm session --backend NAME -- COMMAND`, or use Center().session(…).",
            )
        try:
            name = secrets.token_bytes(SECRET_BYTES)  # identifies this process when it reconnects
            client = SessionClient(
                lambda: connect_unix(path), name, say=lambda _: None, ended=lambda: None, link_limit_s=5.0
            )
        except OSError as error:
            raise InvalidInputError(
                f"The session of this process, at {path}, is unreachable: {error.strerror or error}.",
                hint="Check that the `qslurm session` that holds it is still running.",
            ) from error
        return cls(client)

    def submit(
        self, circuit: str, number_of_shots: int | None = None, raw_data_enabled: bool | None = False
    ) -> Future[ExecuteCircuitResult]:
        """Like `execute_circuit`, without waiting: the future of the result. Any number may be pending."""
        outcome = self._client.submit(
            as_circuit(circuit), self._shots(number_of_shots), bool(raw_data_enabled)
        )
        result: Future[ExecuteCircuitResult] = Future()
        result.set_running_or_notify_cancel()
        with self._lock:
            self._pending.add(result)
        result.add_done_callback(self._settled)

        def settle(outcome: Future[Outcome]) -> None:
            error = outcome.exception()
            if error is None:
                result.set_result(self._record(outcome.result()))
            else:
                result.set_exception(error)

        outcome.add_done_callback(settle)
        return result

    def _settled(self, result: Future[ExecuteCircuitResult]) -> None:
        with self._lock:
            self._pending.discard(result)

    def _wait_for_pending(self) -> None:
        """Wait for all pending circuits; TimedOutError after `leave_s` seconds without an outcome."""
        reported = False
        while True:
            with self._lock:
                left = list(self._pending)
            if not left:
                return
            if not reported:
                reported = True
                self._client.say(f"Waiting for {len(left)} pending circuits before the session ends.")
            if not wait(left, timeout=self._leave_s).done:
                raise TimedOutError(
                    f"No outcome for {self._leave_s:g} s; {len(left)} circuits are pending.",
                    hint="The session was closed without them.",
                )

    def close(self, failure: str = "") -> None:
        """End the session on C2, as failed if a reason is given.

        Pending circuits are not waited for: their futures get an error. Does nothing if the session has ended.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._client.over is None:
                self._conclude(failure)
        finally:
            self._client.close()
            self._on_close()

    def _conclude(self, failure: str) -> None:
        from qslurm.runtimes.hybrid.final_result import as_final_result

        result = None
        if self.final_result is not None and not failure:
            result = json.dumps(as_final_result(dict(self.final_result), "final_result", self.remarks.append))
        try:
            self._client.conclude(
                final_result=result, failure=failure[:LONGEST_REASON], remark=" ".join(self.remarks)
            )
        except QslurmError:
            if not failure:
                raise

    def __enter__(self) -> Session:
        if self.job_id:  # a session of another process is ended there
            self._signals.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._wait_for_pending()
        except BaseException as interruption:
            error = interruption
            raise
        finally:
            self._signals.defer()
            try:
                self.close("" if error is None else reason_of(error))
            finally:
                self._signals.__exit__(kind, error, trace)


def reason_of(error: BaseException) -> str:
    """The reason that a loop failed, in a line or two."""
    if isinstance(error, QslurmError | TerminatedError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "The program was interrupted."
    from qslurm.runtimes.hybrid.exception_text import describe_with_causes

    return describe_with_causes(error)
