"""A session as Python programs hold it: the `qi` of a loop that runs here, while C2 holds the backend for it."""

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
"""So long leaving a session's block waits for a next outcome of what `submit` has under way."""

LONGEST_REASON = 4000
"""Characters of what a loop failed with."""


class Session(QuantumInterface):
    """A `qi` as hybrid files get it, for a loop in this process. `Center.session` and `Session.current` make them.

    May be used by several threads. As a context manager it waits at the end of the block for what `submit` has under
    way, and ends the session: as failed, and at once, if the block raises, or if a SIGTERM or SIGHUP ends the program
    that has no handler for it (in the main thread).
    `job_id` is the job on C2 that holds it (0 if another process does), `final_result` what is kept as the job's
    result, with its `remarks`.
    """

    def __init__(
        self,
        client: SessionClient,
        job_id: int = 0,
        *,
        then: Callable[[], None] = lambda: None,
        parameters: Mapping[str, str] | None = None,
        leave_s: float = LEAVE_S,
    ) -> None:
        super().__init__(client, parameters)
        self._leave_s = leave_s
        self.job_id = job_id
        self.final_result: Mapping[str, Any] | None = None
        self.remarks: list[str] = []
        self._client = client
        self._then = then
        self._closed = False
        self._ending = TerminationSignals()
        self._under_way: set[Future[ExecuteCircuitResult]] = set()
        self._lock = threading.Lock()

    @property
    def transport(self) -> SessionClient:
        """What carries its circuits, for who runs a hybrid file with it."""
        return self._client

    @property
    def executions(self) -> int:
        """How many circuits have been asked for."""
        return self._client.executions

    @classmethod
    def current(cls) -> Session:
        """The session of the command that this process was started by, `qslurm session … -- COMMAND`.

        InvalidInputError if there is none. Leaving its block ends nothing: the session ends with the command.
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
            name = secrets.token_bytes(SECRET_BYTES)  # by which it is known when it comes again
            client = SessionClient(
                lambda: connect_unix(path), name, say=lambda _: None, ended=lambda: None, link_limit_s=5.0
            )
        except OSError as error:
            raise InvalidInputError(
                f"The session of this process, at {path}, can't be reached: {error.strerror or error}.",
                hint="Check that the `qslurm session` that holds it is still running.",
            ) from error
        return cls(client)

    def submit(
        self, circuit: str, number_of_shots: int | None = None, raw_data_enabled: bool | None = False
    ) -> Future[ExecuteCircuitResult]:
        """As `execute_circuit`, without waiting: the future of what it measures. Any number may be under way."""
        asked = self._client.submit(as_circuit(circuit), self._shots(number_of_shots), bool(raw_data_enabled))
        result: Future[ExecuteCircuitResult] = Future()
        result.set_running_or_notify_cancel()
        with self._lock:
            self._under_way.add(result)
        result.add_done_callback(self._settled)

        def settle(outcome: Future[Outcome]) -> None:
            error = outcome.exception()
            if error is None:
                result.set_result(self._note(outcome.result()))
            else:
                result.set_exception(error)

        asked.add_done_callback(settle)
        return result

    def _settled(self, result: Future[ExecuteCircuitResult]) -> None:
        with self._lock:
            self._under_way.discard(result)

    def _see_through(self) -> None:
        """Wait for the outcomes of all that is under way; TimedOutError if none comes for `leave_s`."""
        said = False
        while True:
            with self._lock:
                left = list(self._under_way)
            if not left:
                return
            if not said:
                said = True
                self._client.say(
                    f"Waiting for {len(left)} circuits that are under way, to leave the session."
                )
            if not wait(left, timeout=self._leave_s).done:
                raise TimedOutError(
                    f"{len(left)} circuits had no outcome {self._leave_s:g} s after the session's block was left.",
                    hint="The session was closed without them.",
                )

    def close(self, failure: str = "") -> None:
        """End the session on C2, as failed if a reason is given; it is closed already if it has ended by itself.

        What `submit` has under way is not waited for: its futures end with an error.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._client.over is None:
                self._conclude(failure)
        finally:
            self._client.close()
            self._then()

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
        if self.job_id:  # another process's session is that one's to end
            self._ending.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._see_through()
        except BaseException as broken_off:
            error = broken_off
            raise
        finally:
            self._ending.hold_back()
            try:
                self.close("" if error is None else reason_of(error))
            finally:
                self._ending.__exit__(kind, error, trace)


def reason_of(error: BaseException) -> str:
    """Why a loop failed, in a line or two."""
    if isinstance(error, QslurmError | TerminatedError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "The program was interrupted."
    from qslurm.runtimes.hybrid.exception_text import with_causes

    return with_causes(error)
