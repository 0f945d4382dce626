"""A job step's session with the dispatcher, which survives restarts of the dispatcher.

Every request may be repeated: the dispatcher knows each execution by its number and never runs one twice. So
after any doubt (no answer, an unknown session) the step attaches again and repeats its request.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import msgspec

from qslurm.errors import QslurmError, UnreachableError
from qslurm.protocol.dispatcher_client import DispatcherClient, error_from
from qslurm.protocol.messages import (
    OPEN_EXECUTIONS,
    Attach,
    Attached,
    Attend,
    Await,
    Conclude,
    Done,
    Execute,
    Executed,
    Message,
    Pending,
    Refused,
)
from qslurm.runtimes.hybrid.outcomes import backend_type_of, outcome_of, seed_of
from qslurm.runtimes.interface import BackendType, Outcome
from qslurm.runtimes.lanes.lane_client import LaneClient
from qslurm.system.backoff import Backoff

PATIENCE_S = 2.0
"""The dispatcher counts as unreachable after this long without an answer (it answers within a second, if only
with Pending).
"""

AWAY_S = 3600.0
"""How long a step waits for an unreachable dispatcher; then its job fails."""

ADMISSION_S = 15.0
"""How long a step waits to be admitted: Slurm also runs jobs whose prolog plugin could not be started."""

_ENDS = {"job_cancelled", "timed_out", "job_failed"}  # kinds of refusals after which the job is over


class DispatcherSession:
    """One start of one job, as its step uses the dispatcher. It is the transport of a hybrid job's `qi`.

    `say` gets a sentence whenever the reason for waiting changes. A dispatcher that has not answered for
    `patience_s` is asked again, for `away_s` in all; then UnreachableError is raised. `exit_process` is called
    when the user's code has caught the error that ended its job and executes another circuit. With `lanes`
    circuits may go by lane. A second process of the same step passes the `token` of the first, and shares its
    session.
    """

    def __init__(
        self,
        client: DispatcherClient,
        job_id: int,
        restart: int,
        *,
        say: Callable[[str], None],
        patience_s: float = PATIENCE_S,
        away_s: float = AWAY_S,
        exit_process: Callable[[QslurmError], None] | None = None,
        lanes: bool = False,
        token: str = "",
    ) -> None:
        self._client = client
        self._lane = LaneClient(client) if lanes else None
        self._attach_message = Attach(job_id=job_id, restart=restart, client=token or secrets.token_hex(16))
        self._say = say
        self._patience_s = patience_s
        self._away_s = away_s
        self._exit_process = exit_process
        self._end_reported = False
        self._last_reported = ""
        self._seq = 0
        self._shots = 0
        self._attached = self._attach_admitted()

    @property
    def attached(self) -> Attached:
        """The dispatcher's answer to this step's Attach."""
        return self._attached

    @property
    def executions(self) -> int:
        """The number of circuits submitted so far."""
        return self._seq

    @property
    def shots(self) -> int:
        """The number of shots executed so far."""
        return self._shots

    @property
    def backend_type(self) -> BackendType:
        """The backend that executes the circuits."""
        return backend_type_of(self._attached)

    def execute(self, circuit: str, number_of_shots: int, raw_data: bool) -> Outcome:
        """Execute one circuit of a hybrid job; raises the error that it failed with."""
        return self._outcome_of(self._new_execution(circuit, number_of_shots, raw_data))

    def execute_many(
        self, circuits: Iterable[str], number_of_shots: int, raw_data: bool
    ) -> Iterator[Outcome]:
        """Like `execute` for each circuit, with as many in progress as the dispatcher allows.

        Stops with the error of the first circuit that fails; those in progress by then are waited for.
        """
        waiting = iter(circuits)
        under_way: deque[Execute] = deque()
        while True:
            for circuit in itertools.islice(waiting, OPEN_EXECUTIONS - len(under_way)):
                execution = self._new_execution(circuit, number_of_shots, raw_data)
                self._request(msgspec.structs.replace(execution, wait=False))
                under_way.append(execution)
            if not under_way:
                return
            try:
                outcome = self._outcome_of(under_way.popleft(), begun=True)
            except QslurmError:
                for execution in () if self._end_reported else under_way:
                    self._await(execution, execution.seq, begun=True)
                raise
            yield outcome

    def _new_execution(self, circuit: str, number_of_shots: int, raw_data: bool) -> Execute:
        envelope = self._attached.envelope
        seed = envelope.seed if envelope is not None else None
        seq, self._seq = self._seq, self._seq + 1
        return Execute(
            task=self._attached.task,
            seq=seq,
            circuit=circuit,
            shots=number_of_shots,
            raw_data=raw_data,
            seed=seed_of(seed, seq),
            lane=self._lane is not None,
        )

    def _outcome_of(self, execution: Execute, *, begun: bool = False) -> Outcome:
        by_lane = None if begun or self._lane is None else self._lane.execute(execution)
        executed = by_lane or self._await(execution, execution.seq, begun=begun)
        outcome = outcome_of(executed)
        self._shots += outcome.shots_done
        return outcome

    def circuit_outcome(self) -> Outcome:
        """The outcome of a circuit job, whose circuit was queued when the job was admitted."""
        if self._attached.outcome is not None:
            return outcome_of(self._attached.outcome)
        return outcome_of(self._await(Await(task=self._attached.task, seq=0), 0))

    def wait_for_end(self) -> Attached:
        """Keep a session job's session open until it has ended; returns the dispatcher's last answer."""
        while self._attached.state in {"admitted", "running"}:
            answer = self._request(Attend(task=self._attached.task))
            if isinstance(answer, Refused) and self._attached.state in {"admitted", "running"}:
                self._attached = self._attach_admitted()
        return self._attached

    def conclude(self, *, final_result: str | None = None, failure: str = "", remark: str = "") -> None:
        """Hand in the final result (JSON) of a hybrid job with a remark, or the reason of its failure. Returns
        when it is stored.
        """
        message = Conclude(
            task=self._attached.task, final_result=final_result, failure=failure, remark=remark
        )
        answer = self._request(message)
        if isinstance(answer, Refused) and self._attached.state not in {"finished", "failed"}:
            raise error_from(answer.kind, answer.reason)
        if not isinstance(answer, Done | Refused):
            raise QslurmError(
                f"Unexpected reply from the dispatcher to a final result: {type(answer).__name__}."
            )

    def close(self) -> None:
        """Close the lane."""
        if self._lane is not None:
            self._lane.close()

    @property
    def has_lane(self) -> bool:
        """Whether its last circuit went by lane."""
        return self._lane is not None and self._lane.has_lane

    def _await(self, message: Execute | Await, seq: int, *, begun: bool = False) -> Executed:
        request = Await(task=self._attached.task, seq=seq) if begun else message
        while True:
            answer = self._request(request)
            if isinstance(answer, Executed):
                self._report_waiting("")
                return answer
            if isinstance(answer, Refused) and answer.kind == "unknown_execution":
                request = message  # the dispatcher was killed before it stored the request
            elif isinstance(answer, Refused):
                if self._attached.outcome is not None:
                    return self._attached.outcome
                raise self._refusal(answer)
            elif isinstance(answer, Pending):
                if answer.position or answer.again:
                    self._report_waiting(answer.reason)
                request = Await(task=self._attached.task, seq=seq)
            else:
                raise QslurmError(
                    f"Unexpected reply from the dispatcher to a circuit: {type(answer).__name__}."
                )

    def _refusal(self, answer: Refused) -> QslurmError:
        """The error to raise. Code that has caught the end of its job once is ended the second time."""
        error = error_from(answer.kind, answer.reason)
        if answer.kind in _ENDS:
            if self._end_reported and self._exit_process is not None:
                self._exit_process(error)
            self._end_reported = True
        return error

    def _request(self, message: Execute | Await | Conclude | Attend) -> Message:
        """Repeat a request until it is answered; attach again if the session is unknown."""
        while True:
            answer = self._exchange(message, self._attached.secret)
            if isinstance(answer, Refused) and answer.kind == "session":
                again = self._attach_or_refusal()
                if isinstance(again, Refused):
                    return again
                self._attached = again
                if self._attached.state in {"admitted", "running"}:
                    continue
                reason = self._attached.reason or f"The job has ended: {self._attached.state}."
                kinds = {"cancelled": "job_cancelled", "timed_out": "timed_out"}
                return Refused(kind=kinds.get(self._attached.state, "job_failed"), reason=reason)
            if isinstance(answer, Pending) and isinstance(message, Conclude):
                self._report_waiting(answer.reason)
                time.sleep(1.0)
                continue
            return answer

    def _exchange(self, message: Message, secret: bytes | None) -> Message:
        backoff, until = Backoff(0.1, 1.0), time.monotonic() + self._away_s
        while True:
            try:
                answer = self._client.exchange(message, secret=secret, timeout_s=self._patience_s)
            except UnreachableError as error:
                if time.monotonic() >= until:
                    raise
                why = error.message
            else:
                if not isinstance(answer, Refused) or answer.kind != UnreachableError.kind:
                    return answer
                why = answer.reason  # it runs, but its munged does not, or it is overloaded
                if time.monotonic() >= until:
                    raise error_from(answer.kind, why)
            self._report_waiting(f"{why} The job continues once it does")
            time.sleep(backoff.fail())

    def _attach_admitted(self) -> Attached:
        answer = self._attach_or_refusal()
        if isinstance(answer, Refused):
            raise error_from(answer.kind, answer.reason)
        return answer

    def _attach_or_refusal(self) -> Attached | Refused:
        until = time.monotonic() + ADMISSION_S
        while True:
            answer = self._exchange(self._attach_message, None)
            if isinstance(answer, Attached):
                self._report_waiting("")
                return answer
            if isinstance(answer, Refused) and (answer.kind != "not_ready" or time.monotonic() > until):
                return answer
            if not isinstance(answer, Refused | Pending):
                raise QslurmError(
                    f"Unexpected reply from the dispatcher to a job step: {type(answer).__name__}."
                )
            self._report_waiting(answer.reason)
            time.sleep(0.5)

    def _report_waiting(self, reason: str) -> None:
        if reason and reason != self._last_reported:
            self._say(reason)
        self._last_reported = reason
