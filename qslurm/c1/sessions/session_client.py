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
    """The transport of a session's `qi`. May be used by several threads at once. `say` and `ended` are as for Link;
    `say` may be called by others who have something to say of the session.
    """

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
        self._link = ReconnectingConnection(connect, secret, say=say, ended=ended, limit_s=link_limit_s)

    @property
    def attached(self) -> Attached:
        """C2's description of the session."""
        return self._link.attached

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
        return self._link.over

    @property
    def backend_type(self) -> BackendType:
        """The session's backend."""
        return backend_type_of(self._link.attached)

    def execute(self, circuit: str, number_of_shots: int, raw_data: bool) -> Outcome:
        """Execute a circuit and return its outcome; raises the error it failed with."""
        return self.submit(circuit, number_of_shots, raw_data).result()

    def execute_many(
        self, circuits: Iterable[str], number_of_shots: int, raw_data: bool
    ) -> Iterator[Outcome]:
        """Execute circuits concurrently; outcomes come in order."""
        under_way: deque[Future[Outcome]] = deque()
        try:
            for circuit in circuits:
                if len(under_way) >= 2 * OPEN_IN_SESSION:
                    yield under_way.popleft().result()
                under_way.append(self.submit(circuit, number_of_shots, raw_data))
            while under_way:
                yield under_way.popleft().result()
        finally:
            for one in under_way:  # after an error: what C2 has of it is seen through
                one.exception()

    def submit(self, circuit: str, number_of_shots: int, raw_data: bool) -> Future[Outcome]:
        """Submit a circuit; the future of its outcome."""
        outcome: Future[Outcome] = Future()
        outcome.set_running_or_notify_cancel()

        def settle(answered: Future[Message]) -> None:
            try:
                found = _outcome(answered.result())
            except QslurmError as error:
                outcome.set_exception(error)
                return
            with self._lock:
                self._shots += found.shots_done
            outcome.set_result(found)

        self._link.ask(lambda: self._order(circuit, number_of_shots, raw_data)).add_done_callback(settle)
        return outcome

    def conclude(self, *, final_result: str | None = None, failure: str = "", remark: str = "") -> bool:
        """End the session well, with a remark on its result, or say why it failed; False if C2 has not taken note of
        it in CONCLUDE_S.

        If it has ended before, the error that says why.
        """
        asked = self._link.ask(
            lambda: Conclude(task=0, final_result=final_result, failure=failure, remark=remark)
        )
        try:
            return isinstance(asked.result(CONCLUDE_S), Done)
        except SessionEndedError:
            return True
        except TimeoutError:
            return False

    def close(self) -> None:
        """Close the connection. A session that was not concluded ends at its idle limit."""
        self._link.close()

    def _order(self, circuit: str, shots: int, raw_data: bool) -> Execute:
        seq = self._seq
        seed = seed_of(self._seed, seq)
        order = Execute(task=0, seq=seq, circuit=circuit, shots=shots, raw_data=raw_data, seed=seed)
        if len(circuit) > BODY_LIMIT // 2 and len(encode(order)) > BODY_LIMIT - 64:
            raise InvalidInputError(f"The circuit is larger than {BODY_LIMIT >> 20} MiB.")
        self._seq += 1
        return order


def _outcome(answer: Message) -> Outcome:
    if not isinstance(answer, Executed):
        raise QslurmError(f"C2 answered {type(answer).__name__} to a circuit.")
    return outcome_of(answer)
