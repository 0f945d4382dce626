"""A session's client: submits circuits and receives their outcomes over a reconnecting link."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future

from qslurm.c1.sessions.connect import Connect, SessionEndedError
from qslurm.c1.sessions.reconnecting_connection import LINK_LIMIT_S, Ended, ReconnectingConnection
from qslurm.errors import InvalidInputError, QslurmError
from qslurm.protocol.dispatcher_frames import BODY_LIMIT, encode
from qslurm.protocol.messages import OPEN_IN_SESSION, Attached, Conclude, Done, Execute, Executed, Message
from qslurm.runtimes.hybrid.outcomes import backend_type_of, outcome_of, seed_of
from qslurm.runtimes.interface import BackendType, Outcome

CONCLUDE_S = 10.0
"""Seconds to wait for C2's confirmation when a session closes."""


class SessionClient:
    """The transport of a session's `qi`; thread-safe. `say` and `ended` are as for ReconnectingConnection."""

    def __init__(
        self,
        connect: Connect,
        secret: bytes,
        *,
        say: Callable[[str], None],
        ended: Ended,
        seed: int | None = None,
        link_limit_s: float = LINK_LIMIT_S,
    ) -> None:
        self._seed = seed
        self._seq = 0
        self._shots = 0
        self._lock = threading.Lock()
        self.say = say
        self._connection = ReconnectingConnection(connect, secret, say=say, ended=ended, limit_s=link_limit_s)

    @property
    def attached(self) -> Attached:
        """C2's description of the session."""
        return self._connection.attached

    @property
    def executions(self) -> int:
        """Number of circuits submitted."""
        return self._seq

    @property
    def shots(self) -> int:
        """Total number of shots executed."""
        return self._shots

    @property
    def over(self) -> QslurmError | None:
        """The error with which the session ended, if it has (SessionEndedError: it was concluded)."""
        return self._connection.over

    @property
    def backend_type(self) -> BackendType:
        """The session's backend."""
        return backend_type_of(self._connection.attached)

    def execute(self, circuit: str, number_of_shots: int, raw_data: bool) -> Outcome:
        """Execute a circuit and return its outcome; raises the error it failed with."""
        return self.submit(circuit, number_of_shots, raw_data).result()

    def execute_many(
        self, circuits: Iterable[str], number_of_shots: int, raw_data: bool
    ) -> Iterator[Outcome]:
        """Execute circuits concurrently; outcomes come in order."""
        pending: deque[Future[Outcome]] = deque()
        try:
            for circuit in circuits:
                if len(pending) >= 2 * OPEN_IN_SESSION:
                    yield pending.popleft().result()
                pending.append(self.submit(circuit, number_of_shots, raw_data))
            while pending:
                yield pending.popleft().result()
        finally:
            for one in pending:  # after an error, wait for what C2 is executing
                one.exception()

    def submit(self, circuit: str, number_of_shots: int, raw_data: bool) -> Future[Outcome]:
        """Submit a circuit; the future of its outcome."""
        outcome: Future[Outcome] = Future()
        outcome.set_running_or_notify_cancel()

        def settle(answer: Future[Message]) -> None:
            try:
                found = _outcome(answer.result())
            except QslurmError as error:
                outcome.set_exception(error)
                return
            with self._lock:
                self._shots += found.shots_done
            outcome.set_result(found)

        self._connection.ask(lambda: self._request(circuit, number_of_shots, raw_data)).add_done_callback(
            settle
        )
        return outcome

    def conclude(self, *, final_result: str | None = None, failure: str = "", remark: str = "") -> bool:
        """End the session with a result and a remark, or with a failure; False if C2 does not confirm it in CONCLUDE_S.

        Raises the error that the session ended with before, if any.
        """
        answer = self._connection.ask(
            lambda: Conclude(task=0, final_result=final_result, failure=failure, remark=remark)
        )
        try:
            return isinstance(answer.result(CONCLUDE_S), Done)
        except SessionEndedError:
            return True
        except TimeoutError:
            return False

    def close(self) -> None:
        """Close the connection. A session that was not concluded ends at its idle limit."""
        self._connection.close()

    def _request(self, circuit: str, shots: int, raw_data: bool) -> Execute:
        seq = self._seq
        seed = seed_of(self._seed, seq)
        request = Execute(task=0, seq=seq, circuit=circuit, shots=shots, raw_data=raw_data, seed=seed)
        if len(circuit) > BODY_LIMIT // 2 and len(encode(request)) > BODY_LIMIT - 64:
            raise InvalidInputError(f"The circuit is larger than {BODY_LIMIT >> 20} MiB.")
        self._seq += 1
        return request


def _outcome(answer: Message) -> Outcome:
    if not isinstance(answer, Executed):
        raise QslurmError(f"C2 answered {type(answer).__name__} to a circuit.")
    return outcome_of(answer)
