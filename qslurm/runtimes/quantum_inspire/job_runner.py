"""One circuit at Quantum Inspire: handed in, waited for, and fetched, exactly once as far as its API allows.

The platform keeps projects, algorithms, commits, files, batches and jobs; nothing of these executes before the
batch is enqueued. So what is lost before that is lost without harm, and after that the job is asked for by its
number, however often the link is cut.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from qslurm.errors import JobFailedError, TimedOutError
from qslurm.runtimes.health import TryLaterError
from qslurm.runtimes.machine_result import InvalidReplyError, MachineResult, check_results
from qslurm.runtimes.quantum_inspire.job_guard import JobGuardSettings, cancel
from qslurm.runtimes.quantum_inspire.platform_link import AwayError, RequestRefusedError, connect, words
from qslurm.runtimes.quantum_inspire.platform_records import PlatformRecords
from qslurm.system.guard import Guard

if TYPE_CHECKING:
    from qslurm.circuits.check import Readout
    from qslurm.runtimes.quantum_inspire.quantum_inspire_options import QuantumInspireOptions

log = logging.getLogger(__name__)

_FIRST_POLL_S = 0.05
_SLOWER = 1.5
_LOST = 64
"""Jobs whose outcome could not be fetched yet, in case that their circuits come again."""
_CONFLICT = 409
"""What the platform answers when it has too much of ours in its queue: that is not the circuit's fault."""


class PlatformResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a circuit gave, with one character for each qubit; `seconds` is the platform's own figure."""

    counts: dict[str, int]
    raw_data: list[str] | None
    shots_done: int
    seconds: float


class _Sent(NamedTuple):
    job: int
    batch: int
    since: float


class _Wanted(NamedTuple):
    """What makes two executions the same."""

    program: str
    shots: int
    raw_data: bool


class JobRunner:
    """Where circuits are handed in. ConfigError if the platform's client or the credentials can't be used."""

    def __init__(self, options: QuantumInspireOptions, execute_timeout_s: float) -> None:
        self._options = options
        self._limit_s = execute_timeout_s
        self._link, tokens = connect(options.credentials, options.request_timeout_s)
        self._records = PlatformRecords(self._link, tokens, options.project)
        charge = JobGuardSettings(options.credentials, options.request_timeout_s)
        self._guard = Guard("qslurm.runtimes.quantum_inspire.job_guard", charge)
        self._type_id: int | None = None
        self._open: list[int] = []  # jobs that nobody has seen the end of
        self._lost: dict[_Wanted, _Sent] = {}

    def close(self) -> None:
        """Cancel what has not begun, and close the link; what can't be cancelled now is the guard's to try."""
        for job in list(self._open):
            try:
                cancel(self._link, job)
                self._forget(job)
            except (AwayError, RequestRefusedError) as error:
                log.warning("cannot cancel job %d at Quantum Inspire: %s", job, error)
        self._link.close()
        self._guard.close()

    def look(self) -> None:
        """See to the guard."""
        self._guard.look()

    def backend_type(self) -> Any:
        """The platform's own description of the backend. AwayError or RequestRefusedError."""
        from compute_api_client import BackendType

        if self._type_id is None:
            self._type_id = self._records.backend_type_id(self._options.backend_type)
        ask = "read_backend_type_backend_types_id_get"
        return self._link.ask(BackendType, "BackendTypesApi", ask, self._type_id)

    def execute(self, readout: Readout, shots: int, *, raw_data: bool, file: str) -> PlatformResult:
        """Have a circuit executed, and wait for its result.

        JobFailedError for what the platform refuses or fails, with its words. TryLaterError with `begun` if the
        outcome could not be fetched (the same circuit, asked for again, is then not handed in again), without it
        if nothing has been executed.
        """
        wanted = _Wanted(readout.program, shots, raw_data)
        until = time.monotonic() + self._limit_s
        sent = self._lost.pop(wanted, None)
        known = sent is not None
        if sent is None:
            sent = self._hand_in(wanted, file)
        else:
            log.info("resuming job %d at Quantum Inspire", sent.job)
        try:
            self._begin(sent, file, until, look_first=known)
            return self._fetch(sent, wanted, readout.qubits, file, until)
        except AwayError as error:
            self._lost[wanted] = sent
            while len(self._lost) > _LOST:
                del self._lost[next(iter(self._lost))]
            raise TryLaterError(
                f"Cannot fetch the outcome of job {sent.job} at Quantum Inspire: {error.message}.",
                begun=True,
            ) from error

    # --- handing in ----------------------------------------------------------------------------------

    def _hand_in(self, wanted: _Wanted, file: str) -> _Sent:
        """Put everything there; nothing is executed yet."""
        try:
            if self._type_id is None:
                self._type_id = self._records.backend_type_id(self._options.backend_type)
            job, batch = self._records.put(
                self._type_id, wanted.program, wanted.shots, raw_data=wanted.raw_data
            )
        except AwayError as error:
            raise TryLaterError(
                f"Quantum Inspire accepts no circuits: {error.message}.", begun=False
            ) from error
        except RequestRefusedError as error:
            raise JobFailedError(f"{file}: Quantum Inspire rejected the circuit: {error.message}.") from error
        self._note(job)
        return _Sent(job, batch, time.monotonic())

    def _begin(self, sent: _Sent, file: str, until: float, *, look_first: bool) -> None:
        """Let the job begin. Where it is not known whether it has, that is looked up before it is tried again."""
        pause = _FIRST_POLL_S
        while True:
            try:
                if not (look_first and self._records.is_enqueued(sent.batch)):
                    self._records.enqueue(sent.batch)
                return
            except AwayError as error:
                if time.monotonic() > until:
                    raise
                log.info("job %d at Quantum Inspire: %s", sent.job, error.message)
                look_first = True
            except RequestRefusedError as error:
                self._take_back(sent.job)
                if error.status == _CONFLICT:
                    raise TryLaterError(
                        f"Quantum Inspire accepts no circuits: {error.message}.", begun=False
                    ) from error
                raise JobFailedError(
                    f"{file}: Quantum Inspire rejected the circuit: {error.message}."
                ) from error
            pause = self._wait(pause)

    def _take_back(self, job: int) -> None:
        """Cancel a job that did not begin, for tidiness."""
        try:
            cancel(self._link, job)
        except (AwayError, RequestRefusedError) as error:
            log.info("job %d at Quantum Inspire is left unused: %s", job, error.message)
        self._forget(job)

    # --- waiting and fetching ------------------------------------------------------------------------

    def _fetch(self, sent: _Sent, wanted: _Wanted, qubits: int, file: str, until: float) -> PlatformResult:
        try:
            job = self._await_end(sent, file, until)
            status = str(job.status.value)
            if status != "completed":
                said = words(job.message) or "no reason given"
                trace = f" (trace {words(job.trace_id)})" if words(job.trace_id) else ""
                self._forget(sent.job)
                raise JobFailedError(
                    f"{file}: job {sent.job} at Quantum Inspire was {status}: {said}{trace}."
                )
            result = self._await_result(sent, file, until)
        except RequestRefusedError as error:
            self._forget(sent.job)
            raise JobFailedError(
                f"{file}: cannot read job {sent.job} at Quantum Inspire: {error.message}."
            ) from error
        self._forget(sent.job)
        try:
            return _measured(result, wanted, qubits, time.monotonic() - sent.since)
        except InvalidReplyError as error:
            raise JobFailedError(
                f"{file}: invalid result of job {sent.job} at Quantum Inspire: {error.message}."
            ) from error

    def _await_end(self, sent: _Sent, file: str, until: float) -> Any:
        from compute_api_client import JobStatus

        pause = _FIRST_POLL_S
        while True:
            try:
                job = self._records.job(sent.job)
                if job.status not in {JobStatus.PLANNED, JobStatus.RUNNING}:
                    return job
                if time.monotonic() > until:
                    self._give_up(sent, file)
            except AwayError as error:
                if time.monotonic() > until:
                    raise
                log.info("job %d at Quantum Inspire: %s", sent.job, error.message)
            pause = self._wait(pause)

    def _give_up(self, sent: _Sent, file: str) -> None:
        cancelled = cancel(self._link, sent.job)
        self._forget(sent.job)
        how = (
            "had not started and is cancelled"
            if cancelled
            else "is still running there and cannot be cancelled"
        )
        raise TimedOutError(
            f"{file}: job {sent.job} at Quantum Inspire had no result after {self._limit_s:g} s; it {how}."
        )

    def _await_result(self, sent: _Sent, file: str, until: float) -> Any:
        """A job's result: a circuit has one. It may come a moment after the job's end."""
        pause = _FIRST_POLL_S
        missing_until = time.monotonic() + self._options.request_timeout_s
        while True:
            try:
                results = self._records.results(sent.job)
                if results:
                    return results[0]
                if time.monotonic() > min(missing_until, until):
                    self._forget(sent.job)
                    raise JobFailedError(
                        f"{file}: job {sent.job} at Quantum Inspire completed without a result."
                    )
            except AwayError:
                if time.monotonic() > until:
                    raise
            pause = self._wait(pause)

    def _wait(self, pause: float) -> float:
        """Wait, and say how long to wait the next time."""
        time.sleep(pause)
        self._guard.look()
        return min(pause * _SLOWER, self._options.poll_s)

    def _note(self, job: int) -> None:
        self._open.append(job)
        self._guard.note(" ".join(map(str, self._open)))

    def _forget(self, job: int) -> None:
        if job in self._open:
            self._open.remove(job)
        self._guard.note(" ".join(map(str, self._open)))


def _measured(result: Any, wanted: _Wanted, qubits: int, longest_s: float) -> PlatformResult:
    """A result, checked. InvalidReplyError if it can't be one of this circuit."""
    try:
        counts = msgspec.convert(result.results, dict[str, int], strict=True)
    except msgspec.ValidationError as error:
        raise InvalidReplyError(f"its counts are invalid ({error})") from error
    strings = result.raw_data if wanted.raw_data else None
    if wanted.raw_data and strings is None:
        raise InvalidReplyError("it has no raw data although raw data was requested")
    executed = MachineResult(job_id=result.job_id, results=counts, raw_data=strings)
    done = wanted.shots if result.shots_done is None else result.shots_done
    if not 1 <= done <= wanted.shots:
        raise InvalidReplyError(f"it has {done} shots instead of {wanted.shots}")
    widths = {len(key) for key in counts}
    if len(widths) != 1 or min(widths) < qubits:
        raise InvalidReplyError(f"its results are not strings of {qubits} zeros and ones")
    check_results(executed, done, widths)
    if strings is not None and len(strings) != done:
        raise InvalidReplyError(f"its raw data has {len(strings)} shots instead of {done}")
    seconds = float(result.execution_time_in_seconds)
    if not math.isfinite(seconds) or seconds < 0:
        raise InvalidReplyError(f"invalid duration of {seconds} s")
    return PlatformResult(
        counts=counts,
        raw_data=strings,
        shots_done=done,
        seconds=min(seconds, longest_s),  # nobody is charged for more than was waited for
    )
