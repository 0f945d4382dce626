"""A center's C2 for Python programs: submit jobs, get futures, fetch what they gave."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qslurm.api.job import Job
from qslurm.api.result import Result, result_of
from qslurm.api.watcher import Watcher
from qslurm.errors import NotReadyError

if TYPE_CHECKING:
    from qslurm.api.session import Session
    from qslurm.center import connection
    from qslurm.center.asked import Request
    from qslurm.center.follow_up import Condition
    from qslurm.slurmrest import JobInfo

Source = str | os.PathLike[str]


class Center:
    """The way from this center to C2, or to one of several platforms, configured as for the command `qslurm`.

    Settings given here win over the environment and the configuration files; they have the names that they have there.
    All methods may be called from several threads. As a context manager it waits at the end for the jobs submitted
    through it, as an executor of concurrent.futures does.
    """

    def __init__(
        self,
        *,
        platform: str | None = None,
        url: str | None = None,
        user: str | None = None,
        token_file: Source | None = None,
        api_version: str | None = None,
        results_url: str | None = None,
        backend: str | None = None,
    ) -> None:
        from qslurm.center.config import load_config

        flags = {
            "platform": platform,
            "url": url,
            "user": user,
            "token_file": None if token_file is None else os.fspath(token_file),
            "api_version": api_version,
            "results_url": results_url,
            "backend": backend,
        }
        self._config = load_config(flags)
        self._for_callers, self._for_watching = self._connection(), self._connection()
        self._lock = threading.Lock()
        self._watcher = Watcher(self._settle)
        self._jobs: list[Job] = []

    def __enter__(self) -> Center:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            for job in self._jobs:
                job.exception()
        self.close()

    def close(self) -> None:
        """Close the connections. Jobs go on; a future that is still open stays so."""
        self._watcher.close()
        with self._lock:
            self._for_callers.close()
        self._for_watching.close()

    def submit(
        self,
        source: Source,
        *,
        backend: str | None = None,
        qubits: int | None = None,
        partition: str | None = None,
        name: str | None = None,
        shots: int | None = None,
        seed: int | None = None,
        raw_data: bool = False,
        qpu_seconds: float | None = None,
        time_limit: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        reservation: str | None = None,
        dependency: str | None = None,
        array: str | None = None,
        sweep: Mapping[str, str | Iterable[float]] | None = None,
        begin: str | None = None,
        hold: bool = False,
        comment: str | None = None,
        export: str | None = None,
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        then: str | Path | None = None,
        then_if: Condition = "ok",
    ) -> Job:
        """Submit a job: a file's name, or the text itself of a circuit, a hybrid Python file or a batch script.

        The options are those of `qslurm submit`; `time_limit` is written as for sbatch ("10:00"). A string with a line
        break, or that begins as a circuit does ("version 3.0; …"), is a text. With `backend="any"` it is the first free
        one of this platform that has enough qubits: the circuit's, or `qubits` for other jobs. `then` is a script for
        sbatch here, held until the job has ended; its id is `job.follow_up`. `sweep` gives names their values, such as
        {"theta": "0:3.14:0.1"} or {"theta": [0.1, 0.2]}; the result of a sweep, or of an array, has `tasks`.

        Raises what the command would report: InvalidInputError (CircuitError with line and column), RefusedError,
        TokenError, UnreachableError; after an UncertainError the job may be on C2.
        """
        from qslurm.center import jobs
        from qslurm.center.asked import Request, settle
        from qslurm.center.follow_up import followed
        from qslurm.center.placing import wants_any
        from qslurm.center.request import prepare

        text, file = _text_or_file(source)
        request = Request(
            file=file,
            text=text,
            template=template,
            backend=backend,
            qubits=qubits,
            partition=partition,
            name=name,
            shots=shots,
            seed=seed,
            raw_data=raw_data,
            qpu_seconds=qpu_seconds,
            time_limit=time_limit,
            account=account,
            qos=qos,
            reservation=reservation,
            dependency=dependency,
            array=array,
            sweep=tuple(f"{swept}={_values(values)}" for swept, values in (sweep or {}).items()),
            begin=begin,
            hold=hold,
            comment=comment,
            export=export,
            variables=dict(variables or {}),
        )
        request = settle(request)
        if wants_any(self._config, request):
            request = self._placed(request)
        payload = prepare(self._config, request, os.environ)
        script, center = Path(then) if then else None, self._for_callers
        with self._lock, followed(center, payload, script, then_if) as follow_up:
            submitted = jobs.submit(center, payload)
        job = self.job(submitted.job_id)
        job.follow_up = follow_up
        return job

    def _placed(self, request: Request) -> Request:
        from qslurm.center.choice import choose
        from qslurm.center.lists import backends
        from qslurm.center.placing import need_of, offers_of, placed

        need = need_of(self._config, [request])
        with self._lock:
            listed = backends(self._for_callers)
        return placed(request, choose(need, offers_of(self._config, listed), time.time()))

    def map(
        self, sources: Iterable[Source], *, timeout: float | None = None, **options: Any
    ) -> Iterator[Result]:
        """Submit a job for each source at once, and give their results in this order.

        `options` are those of `submit`. As with `Executor.map`, the first job that did not complete raises, and
        there is a TimeoutError after `timeout` seconds from now. Ending the iteration early cancels what is left.
        """
        end = None if timeout is None else time.monotonic() + timeout
        jobs = [self.submit(source, **options) for source in sources]

        def results() -> Iterator[Result]:
            jobs.reverse()
            try:
                while jobs:
                    left = None if end is None else end - time.monotonic()
                    yield jobs[-1].result(left)
                    jobs.pop()
            finally:
                for job in jobs:
                    job.cancel()

        return results()

    def session(
        self,
        *,
        backend: str | None = None,
        qubits: int | None = None,
        partition: str | None = None,
        name: str | None = None,
        idle_limit_s: float = 60.0,
        wait_limit_s: float | None = None,
        time_limit: str | None = None,
        qpu_seconds: float | None = None,
        account: str | None = None,
        qos: str | None = None,
        reservation: str | None = None,
        seed: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> Session:
        """Have C2 hold a backend for a loop that runs here, and give its `qi`: `with center.session(…) as qi:`.

        Returns when C2 holds it. `say` is told why that takes its time, and when the link breaks (default: a line on
        stderr). The session ends with the block, also when SIGTERM ends the program (scancel, a time limit); at its own
        time limit; or when nothing was asked of it for `idle_limit_s`, which is what a program leaves behind that was
        killed at once. TimedOutError if it has not begun after `wait_limit_s`. The other options, and errors, are those
        of `submit`.
        """
        from qslurm.api.session import Session
        from qslurm.center.asked import Request
        from qslurm.center.placing import wants_any
        from qslurm.sessions.ending import Ending
        from qslurm.sessions.opening import Wish, open_session

        request = Request(
            text="",
            kind="hybrid",
            backend=backend,
            qubits=qubits,
            partition=partition,
            name=name,
            time_limit=time_limit,
            qpu_seconds=qpu_seconds,
            account=account,
            qos=qos,
            reservation=reservation,
            seed=seed,
        )
        if wants_any(self._config, request):
            request = self._placed(request)
        wish = Wish(request, idle_limit_s, wait_limit_s)
        connection = self._connection()
        try:
            with Ending():  # who waits and is told to end leaves no job on C2
                opened = open_session(connection, wish, os.environ, say or _say)
        except BaseException:
            connection.close()
            raise
        return Session(opened.client, opened.job_id, then=connection.close)

    def job(self, job_id: int) -> Job:
        """The future of a job that has been submitted before, by whichever means."""
        job = Job(self, job_id, self._config.prefix)
        with self._lock:
            self._jobs = [known for known in self._jobs if not known.done()]
            self._jobs.append(job)
        self._watcher.add(job)
        return job

    def jobs(self) -> list[JobInfo]:
        """The center's jobs that C2's slurmctld knows, waiting, running or ended a moment ago."""
        with self._lock:
            slurm = self._for_callers.slurm
            return [job for job in slurm.jobs() if job.user == slurm.user]

    def backends(self) -> list[dict[str, Any]]:
        """C2's backends: name, state, reason, qubits, max_shots, default_shots, queued, executing."""
        with self._lock:
            return self._for_callers.results.backends()

    def look(self, job_id: int) -> JobInfo:
        """A job as C2 sees it now; UnknownJobError if it is none of this center's."""
        from qslurm.center import jobs

        with self._lock:
            return jobs.look(self._for_callers, job_id)

    def tasks(self, job_id: int) -> list[JobInfo]:
        """Each task of an array or a sweep as C2 sees it now; those that wait may share a record."""
        from qslurm.center import tasks
        from qslurm.center.refs import JobRef

        with self._lock:
            return list(tasks.look(self._for_callers, JobRef(job_id)).jobs)

    def cancel(self, job_id: int) -> bool:
        """Have C2 cancel a job; False if it was over already."""
        with self._lock:
            return not self._for_callers.slurm.cancel(job_id)

    def logs(self, job_id: int) -> str:
        """What a job has written so far."""
        from qslurm.center.results import log_pieces

        with self._lock:
            return b"".join(log_pieces(self._for_callers.results, job_id)).decode(errors="replace")

    def _connection(self) -> connection.Center:
        from qslurm.center.connection import open_center

        return open_center(self._config)

    def _settle(self, job: Job) -> Result | None:
        """Look at a job for its future; called by the watcher's thread only, which has a connection of its own."""
        from qslurm.center import jobs

        center = self._for_watching
        info = jobs.look(center, job.id)
        if info.array_job_id == job.id:
            return _settle_array(center, job.id)
        if not info.is_final:
            return None
        failure = jobs.outcome_error(center, info)
        if failure is not None:
            raise failure
        if info.marks.kind == "script" or not center.has_platform:
            return Result(job.id, info.marks.kind or "script")
        with suppress(NotReadyError):  # Slurm may say so a moment before the platform has written it down
            return result_of(center.results.results(job.id))
        return None


def _settle_array(center: connection.Center, job_id: int) -> Result | None:
    from qslurm.center import tasks
    from qslurm.center.refs import JobRef

    array = JobRef(job_id)
    found = tasks.look(center, array)
    if not found.is_final:
        return None
    failure = tasks.outcome_error(center, found)
    if failure is not None:
        raise failure
    kind = found.jobs[0].marks.kind or "script"
    if kind == "script" or not center.has_platform:
        return Result(job_id, kind)
    with suppress(NotReadyError):
        documents = tasks.results(center, array)["tasks"]
        if not any("error" in document for document in documents):
            return Result(job_id, kind, tasks=[result_of(document) for document in documents])
    return None


def _values(values: str | Iterable[float]) -> str:
    return values if isinstance(values, str) else ",".join(str(value) for value in values)


def _say(reason: str) -> None:
    if sys.stderr is not None:
        print(f"qslurm: {reason}", file=sys.stderr, flush=True)


def _text_or_file(source: Source) -> tuple[str | None, Path | None]:
    from qslurm.center.files import is_circuit

    if isinstance(source, str) and ("\n" in source or is_circuit(source)):
        return source, None
    return None, Path(source)
