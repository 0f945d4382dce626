"""Executes a circuit as a job at Quantum Inspire: submits it, waits, and fetches the result, exactly once as
far as the API allows.

The platform keeps projects, algorithms, commits, files, batches and jobs; nothing executes before the batch is
enqueued. A failure before that is harmless; after it the job is looked up by its number, however often the
connection breaks.
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
from qslurm.runtimes.quantum_inspire.platform_link import (
    RequestRefusedError,
    UnavailableError,
    clean_text,
    connect,
)
from qslurm.runtimes.quantum_inspire.platform_records import PlatformRecords
from qslurm.system.guard_process import Guard

if TYPE_CHECKING:
    from qslurm.circuits.check import Readout
    from qslurm.runtimes.quantum_inspire.quantum_inspire_options import QuantumInspireOptions

log = logging.getLogger(__name__)

_FIRST_POLL_S = 0.05
_SLOWER = 1.5
_MAX_UNFETCHED = 64
"""Jobs whose outcome could not be fetched yet; the same circuit, executed again, resumes its job."""
_CONFLICT = 409
"""The platform's status when its queue has too many of our jobs: that is not the circuit's fault."""


class PlatformResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a circuit, with one character for each qubit; `seconds` is the platform's own figure."""

    counts: dict[str, int]
    raw_data: list[str] | None
    shots_done: int
    seconds: float


class _SubmittedJob(NamedTuple):
    job: int
    batch: int
    since: float


class ExecutionKey(NamedTuple):
    """Two executions with the same values are the same."""

    program: str
    shots: int
    raw_data: bool


class JobRunner:
    """Submits circuits as jobs. ConfigError if the platform's client or the credentials are unusable."""

    def __init__(self, options: QuantumInspireOptions, execute_timeout_s: float) -> None:
        self._options = options
        self._limit_s = execute_timeout_s
        self._link, tokens = connect(options.credentials, options.request_timeout_s)
        self._records = PlatformRecords(self._link, tokens, options.project)
        settings = JobGuardSettings(options.credentials, options.request_timeout_s)
        self._guard = Guard("qslurm.runtimes.quantum_inspire.job_guard", settings)
        self._type_id: int | None = None
        self._open: list[int] = []  # jobs that may not have ended
        self._unfetched: dict[ExecutionKey, _SubmittedJob] = {}

    def close(self) -> None:
        """Cancel jobs that have not started, and close the connection; the guard tries what fails here."""
        for job in list(self._open):
            try:
                cancel(self._link, job)
                self._remove_open(job)
            except (UnavailableError, RequestRefusedError) as error:
                log.warning("cannot cancel job %d at Quantum Inspire: %s", job, error)
        self._link.close()
        self._guard.close()

    def check_guard(self) -> None:
        """Restart the guard if it has ended."""
        self._guard.ensure_running()

    def backend_type(self) -> Any:
        """The platform's own description of the backend. Raises UnavailableError or RequestRefusedError."""
        from compute_api_client import BackendType

        if self._type_id is None:
            self._type_id = self._records.backend_type_id(self._options.backend_type)
        call = "read_backend_type_backend_types_id_get"
        return self._link.call(BackendType, "BackendTypesApi", call, self._type_id)

    def execute(self, readout: Readout, shots: int, *, raw_data: bool, file: str) -> PlatformResult:
        """Execute a circuit and wait for its result.

        Raises JobFailedError with the platform's message if it refuses or fails the job. Raises TryLaterError
        with `begun` if the outcome could not be fetched (the same circuit, executed again, then resumes its
        job), and without `begun` if nothing has been executed.
        """
        execution = ExecutionKey(readout.program, shots, raw_data)
        deadline = time.monotonic() + self._limit_s
        submitted = self._unfetched.pop(execution, None)
        is_resumed = submitted is not None
        if submitted is None:
            submitted = self._submit(execution, file)
        else:
            log.info("resuming job %d at Quantum Inspire", submitted.job)
        try:
            self._enqueue(submitted, file, deadline, check_first=is_resumed)
            return self._fetch(submitted, execution, readout.qubits, file, deadline)
        except UnavailableError as error:
            self._unfetched[execution] = submitted
            while len(self._unfetched) > _MAX_UNFETCHED:
                del self._unfetched[next(iter(self._unfetched))]
            raise TryLaterError(
                f"Cannot fetch the outcome of job {submitted.job} at Quantum Inspire: {error.message}.",
                begun=True,
            ) from error

    # --- submitting ----------------------------------------------------------------------------------

    def _submit(self, execution: ExecutionKey, file: str) -> _SubmittedJob:
        """Create the job and all that it needs; nothing is executed yet."""
        try:
            if self._type_id is None:
                self._type_id = self._records.backend_type_id(self._options.backend_type)
            job, batch = self._records.put(
                self._type_id, execution.program, execution.shots, raw_data=execution.raw_data
            )
        except UnavailableError as error:
            raise TryLaterError(
                f"Quantum Inspire accepts no circuits: {error.message}.", begun=False
            ) from error
        except RequestRefusedError as error:
            raise JobFailedError(f"{file}: Quantum Inspire rejected the circuit: {error.message}.") from error
        self._add_open(job)
        return _SubmittedJob(job, batch, time.monotonic())

    def _enqueue(self, submitted: _SubmittedJob, file: str, deadline: float, *, check_first: bool) -> None:
        """Enqueue the job's batch. If an earlier attempt may have succeeded, check that before the next."""
        pause = _FIRST_POLL_S
        while True:
            try:
                if not (check_first and self._records.is_enqueued(submitted.batch)):
                    self._records.enqueue(submitted.batch)
                return
            except UnavailableError as error:
                if time.monotonic() > deadline:
                    raise
                log.info("job %d at Quantum Inspire: %s", submitted.job, error.message)
                check_first = True
            except RequestRefusedError as error:
                self._cancel_unstarted(submitted.job)
                if error.status == _CONFLICT:
                    raise TryLaterError(
                        f"Quantum Inspire accepts no circuits: {error.message}.", begun=False
                    ) from error
                raise JobFailedError(
                    f"{file}: Quantum Inspire rejected the circuit: {error.message}."
                ) from error
            pause = self._wait(pause)

    def _cancel_unstarted(self, job: int) -> None:
        try:
            cancel(self._link, job)
        except (UnavailableError, RequestRefusedError) as error:
            log.info("job %d at Quantum Inspire is left unused: %s", job, error.message)
        self._remove_open(job)

    # --- waiting and fetching ------------------------------------------------------------------------

    def _fetch(
        self, submitted: _SubmittedJob, execution: ExecutionKey, qubits: int, file: str, deadline: float
    ) -> PlatformResult:
        try:
            job = self._wait_for_end(submitted, file, deadline)
            status = str(job.status.value)
            if status != "completed":
                text = clean_text(job.message) or "no reason given"
                trace = f" (trace {clean_text(job.trace_id)})" if clean_text(job.trace_id) else ""
                self._remove_open(submitted.job)
                raise JobFailedError(
                    f"{file}: job {submitted.job} at Quantum Inspire was {status}: {text}{trace}."
                )
            result = self._wait_for_result(submitted, file, deadline)
        except RequestRefusedError as error:
            self._remove_open(submitted.job)
            raise JobFailedError(
                f"{file}: cannot read job {submitted.job} at Quantum Inspire: {error.message}."
            ) from error
        self._remove_open(submitted.job)
        try:
            return checked_result(result, execution, qubits, time.monotonic() - submitted.since)
        except InvalidReplyError as error:
            raise JobFailedError(
                f"{file}: invalid result of job {submitted.job} at Quantum Inspire: {error.message}."
            ) from error

    def _wait_for_end(self, submitted: _SubmittedJob, file: str, deadline: float) -> Any:
        from compute_api_client import JobStatus

        pause = _FIRST_POLL_S
        while True:
            try:
                job = self._records.job(submitted.job)
                if job.status not in {JobStatus.PLANNED, JobStatus.RUNNING}:
                    return job
                if time.monotonic() > deadline:
                    self._give_up(submitted, file)
            except UnavailableError as error:
                if time.monotonic() > deadline:
                    raise
                log.info("job %d at Quantum Inspire: %s", submitted.job, error.message)
            pause = self._wait(pause)

    def _give_up(self, submitted: _SubmittedJob, file: str) -> None:
        cancelled = cancel(self._link, submitted.job)
        self._remove_open(submitted.job)
        state = (
            "had not started and is cancelled"
            if cancelled
            else "is still running there and cannot be cancelled"
        )
        raise TimedOutError(
            f"{file}: job {submitted.job} at Quantum Inspire had no result after {self._limit_s:g} s; it {state}."
        )

    def _wait_for_result(self, submitted: _SubmittedJob, file: str, deadline: float) -> Any:
        """The result of a completed job. It may appear a moment after the job's end."""
        pause = _FIRST_POLL_S
        missing_until = time.monotonic() + self._options.request_timeout_s
        while True:
            try:
                results = self._records.results(submitted.job)
                if results:
                    return results[0]
                if time.monotonic() > min(missing_until, deadline):
                    self._remove_open(submitted.job)
                    raise JobFailedError(
                        f"{file}: job {submitted.job} at Quantum Inspire completed without a result."
                    )
            except UnavailableError:
                if time.monotonic() > deadline:
                    raise
            pause = self._wait(pause)

    def _wait(self, pause: float) -> float:
        """Wait, and return the next pause."""
        time.sleep(pause)
        self._guard.ensure_running()
        return min(pause * _SLOWER, self._options.poll_s)

    def _add_open(self, job: int) -> None:
        self._open.append(job)
        self._guard.note(" ".join(map(str, self._open)))

    def _remove_open(self, job: int) -> None:
        if job in self._open:
            self._open.remove(job)
        self._guard.note(" ".join(map(str, self._open)))


def checked_result(result: Any, execution: ExecutionKey, qubits: int, longest_s: float) -> PlatformResult:
    """A result as PlatformResult; raises InvalidReplyError if it cannot belong to this execution."""
    try:
        counts = msgspec.convert(result.results, dict[str, int], strict=True)
    except msgspec.ValidationError as error:
        raise InvalidReplyError(f"its counts are invalid ({error})") from error
    strings = result.raw_data if execution.raw_data else None
    if execution.raw_data and strings is None:
        raise InvalidReplyError("it has no raw data although raw data was requested")
    executed = MachineResult(job_id=result.job_id, results=counts, raw_data=strings)
    done = execution.shots if result.shots_done is None else result.shots_done
    if not 1 <= done <= execution.shots:
        raise InvalidReplyError(f"it has {done} shots instead of {execution.shots}")
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
        seconds=min(seconds, longest_s),  # never more than was waited for
    )
