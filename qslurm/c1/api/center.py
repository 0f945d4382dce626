"""A center's C2 for Python programs: submit jobs, get futures, fetch results."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from qslurm.c1.api.agent_changes import ChangeListener
from qslurm.c1.api.connection_pool import ConnectionPool
from qslurm.c1.api.futures import ArrayFutures, settle_job, settle_tasks
from qslurm.c1.api.job import Job
from qslurm.c1.api.job_watcher import JobWatcher
from qslurm.c1.api.mapping import AT_ONCE, PendingJob, Results, cancel_all, send_all
from qslurm.c1.api.option_checks import (
    check_buffersize,
    check_seconds,
    check_then_if,
    job_of,
    refuse_unknown,
    session_of,
)
from qslurm.c1.api.result import Result
from qslurm.c1.submission.backend_limits import BackendLimits
from qslurm.errors import InvalidInputError, NotReadyError

if TYPE_CHECKING:
    from qslurm.c1.api.job_keywords import JobKeywords, SessionKeywords
    from qslurm.c1.api.session import Session
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.followups.followup_submission import FollowUpCondition
    from qslurm.payload.spec import JobSpec
    from qslurm.slurm.job_info import JobInfo

Source = str | os.PathLike[str]

_open_centers: weakref.WeakSet[Center] = weakref.WeakSet()
"""All Centers of this process, to be reopened in a forked one."""


def _after_fork() -> None:
    for center in list(_open_centers):
        center._reopen()


os.register_at_fork(after_in_child=_after_fork)


class Center:
    """Access to C2, or to one of several platforms, configured as for the command `qslurm`.

    Settings given here override the environment and the configuration files, and have the same names. All methods are
    thread-safe. As a context manager, like an executor of concurrent.futures, it waits at the end of the block for the
    jobs submitted in it.
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
        from qslurm.c1.config.center_config import load_config

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
        self._lock = threading.Lock()
        self._connect()
        self._jobs: list[Job] = []
        self._arrays: list[ArrayFutures] = []
        self._maps: weakref.WeakSet[Results[Source]] = weakref.WeakSet()
        _open_centers.add(self)

    def __enter__(self) -> Center:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for results in list(self._maps):
            if kind is None:
                results.finish()
            else:
                results.close()
        if kind is None:
            for job in self._jobs:
                job.exception()
        self.close()

    def close(self) -> None:
        """Close the connections. The jobs continue; open futures get a NotReadyError."""
        with self._lock:  # a job is either added before this, and given up below, or refused
            self._connections.close()
        self._watcher.close()
        self._for_watching.close()
        for job in self._jobs:
            with suppress(InvalidStateError):
                job.set_exception(
                    NotReadyError(
                        f"The Center was closed before job {job.ref} had ended; the job continues.",
                        hint=f"Center().job({job.id}) returns to it.",
                    )
                )
        for array in self._arrays:
            array.set_exception(
                NotReadyError("The Center was closed before this job had ended; it continues.")
            )

    def _read_limits(self) -> list[dict[str, Any]]:
        with self._connections.one() as center:
            return center.job_manager.limits() if center.has_job_manager else []

    def _connect(self) -> None:
        self._connections, self._for_watching = ConnectionPool(self._connection), self._connection()
        self._limits = BackendLimits(self._read_limits)
        self._watcher = JobWatcher(self._settle, delay=self._for_watching.delay)
        self._listener = ChangeListener(
            self._connection, self._watcher.wake, lambda: self._watcher.is_waiting
        )

    def _watch(self, job: Job | ArrayFutures) -> None:
        self._watcher.add(job)
        self._listener.listen()

    def _reopen(self) -> None:
        """Open new connections and threads in a forked process, which must not use its parent's."""
        self._lock = threading.Lock()
        if not self._connections.is_closed:
            self._connect()
            unfinished: list[Job | ArrayFutures] = [*self._jobs, *self._arrays]
            for job in unfinished:
                if not job.done():
                    self._watch(job)

    def submit(
        self,
        source: Source,
        *,
        then: str | Path | None = None,
        then_if: FollowUpCondition = "ok",
        **options: Unpack[JobKeywords],
    ) -> Job:
        """Submit a job, and return its future.

        `source` is a file, or the text of a circuit, a hybrid Python file or a batch script: a string with a line
        break, or one that begins as a circuit does ("version 3.0; …"), is a text.

        `then` is a script for sbatch on this cluster, held until the job has ended as `then_if` says ("ok", "any" or
        "failed"); its job id is `job.follow_up`. The options are those of `qslurm submit`, with _ for -; None counts
        as not given:

        backend: Quantum backend, for example qx; any: the first free one that fits.
        qubits: Qubits needed, for --backend any.
        partition: C2's partition.
        job_name, name: The job's name.
        shots: Number of shots of a circuit.
        seed: Seed of an emulator, for reproducible results.
        raw_data: Keep each shot's bits, not only their counts.
        time, time_limit: Time limit, as for sbatch. For example "10:00".
        qpu_seconds: End the job when its circuits have used this much backend time.
        set, variables: Value of {{ NAME }} in a circuit, of qi.parameters, or of a template variable; may be repeated.
            For example {"phi": 0.5}.
        sweep: Submit a task for each value of {{ NAME }}: FROM:TO:STEP, FROM:TO/COUNT or a list; several make a grid.
            For example {"theta": "0:3.14:0.1"} or {"theta": [0.1, 0.2]}. The result has `tasks`.
        array: Submit an array with these indexes, for example 0-9 or 0-99%4. The result has `tasks`.
        dependency: Start after other jobs on C2, as for sbatch, for example afterok:12.
        begin: Start no earlier than this time, for example 16:00, now+1hour or 2026-11-22T16:00.
        hold: Hold the job until `qslurm release`.
        account: The account on C2.
        qos: The quality of service on C2.
        reservation: The reservation on C2.
        comment: Comment, shown with the job.
        export: Variables to export to the job: comma-separated NAME or NAME=VALUE.
        template: Render this payload template instead of the file kind's own.

        Raises the command's errors: InvalidInputError (CircuitError with line and column), RefusedError, TokenError,
        UnreachableError; after an UncertainError the job may be on C2. TypeError for an unknown option.
        """
        from qslurm.c1.followups.followup_submission import followed
        from qslurm.c1.submission.sending import Batch

        self._connections.refuse_if_closed()
        check_then_if(then_if)
        jobs = self._with_backend([job_of(source, options, "submit")])
        batch = Batch(self._config, jobs, os.environ, limits=self._limits)
        payload, script = batch.packages[0].payload, Path(then) if then else None
        with self._connections.one() as center, followed(center, payload, script, then_if) as follow_up:
            submitted = batch.send_whole(center)
        job = self.job(submitted.job_id)
        job.follow_up = follow_up
        return job

    def _with_backend(self, jobs: list[JobSpec]) -> list[JobSpec]:
        """The jobs; those with backend "any" with one that fits all of them."""
        from qslurm.c1.queries.lists import backends
        from qslurm.c1.submission.backend_candidates import choose_backends, offers_of
        from qslurm.c1.submission.backend_selection import Need, Offer

        def offers(_names: Sequence[str], _need: Need) -> list[Offer]:
            with self._connections.one() as center:
                return offers_of(self._config, backends(center))

        platform = self._config.platform
        return choose_backends(self._config, jobs, [platform], platform, offers)[0]

    def map(
        self,
        sources: Iterable[Source],
        *,
        timeout: float | None = None,
        buffersize: int = 2 * AT_ONCE,
        return_exceptions: bool = False,
        then: str | Path | None = None,
        then_if: FollowUpCondition = "ok",
        **options: Unpack[JobKeywords],
    ) -> Results[Source]:
        """Submit a job for each source at once, and yield their results in the order of the sources.

        The options are those of `submit`. Twenty or more circuits or hybrid files with the same options are submitted
        as arrays. As with `Executor.map`, the first job that did not complete raises its error, and a TimeoutError is
        raised `timeout` seconds from now. With `return_exceptions`, as with `asyncio.gather`, an error takes the place
        of its result. Ending the iteration early cancels the remaining jobs, and so does an error that ends the block
        of this Center. At most `buffersize` sources are read ahead of the results, so `sources` may be endless.
        """
        self._connections.refuse_if_closed()
        if isinstance(sources, str | bytes | os.PathLike):
            raise InvalidInputError("map takes a list of jobs; use submit for a single one.")
        check_buffersize(buffersize)
        check_then_if(then_if)
        refuse_unknown(options, "map")

        def send(part: list[Source]) -> list[PendingJob]:
            self._connections.refuse_if_closed()
            if then:  # each job has its own follow-up
                return self._send_followed(part, then, then_if, options)
            from qslurm.c1.submission.sending import Batch

            jobs = self._with_backend([job_of(source, options, "map") for source in part])
            batch = Batch(self._config, jobs, os.environ, limits=self._limits)
            return send_all(self._connection, batch, self._futures)

        results = Results(
            sources,
            send,
            self._cancel_all,
            end=None if timeout is None else time.monotonic() + timeout,
            buffersize=buffersize,
            return_exceptions=return_exceptions,
        )
        self._maps.add(results)
        return results

    def _send_followed(
        self,
        sources: list[Source],
        then: str | Path,
        then_if: FollowUpCondition,
        options: JobKeywords,
    ) -> list[PendingJob]:
        sent: list[Job] = []
        try:
            for source in sources:
                sent.append(self.submit(source, then=then, then_if=then_if, **options))
        except BaseException:
            self._cancel_all([job.id for job in sent])
            raise
        return [(job.id, job) for job in sent]

    def _cancel_all(self, jobs: Sequence[int]) -> None:
        cancel_all(self._connection, jobs)

    def _futures(self, job_id: int, tasks: int | None) -> list[Future[Result]]:
        if tasks is None:
            return [self.job(job_id)]
        array = ArrayFutures(job_id, tasks)
        with self._lock:
            self._connections.refuse_if_closed()  # it would not be watched
            self._arrays = [*(known for known in self._arrays if not known.done()), array]
        self._watch(array)
        return array.futures

    def session(
        self,
        *,
        idle_limit_s: float = 60.0,
        wait_limit_s: float | None = None,
        say: Callable[[str], None] | None = None,
        **options: Unpack[SessionKeywords],
    ) -> Session:
        """Hold a backend on C2 for a loop in this process, and return its `qi`: `with center.session(…) as qi:`.

        Returns when the session has started. `say` gets a sentence about why it waits, and about a lost connection
        (default: a line on stderr). The session ends with the block, also if SIGTERM ends the program (scancel, a time
        limit); at its time limit; or after `idle_limit_s` without a request, for example if the program was killed.
        TimedOutError if it has not started after `wait_limit_s`.

        The other options are those of `qslurm session`, and mean what they mean for `submit`: `backend`, `qubits`,
        `partition`, `job_name`, `seed`, `time`, `qpu_seconds`, `account`, `qos`, `reservation`. So do the errors.
        """
        from qslurm.c1.api.session import Session
        from qslurm.c1.sessions.opening import SessionOptions, open_session
        from qslurm.c1.sessions.termination import TerminationSignals

        self._connections.refuse_if_closed()
        check_seconds({"idle_limit_s": idle_limit_s, "wait_limit_s": wait_limit_s})
        (job,) = self._with_backend([session_of(options)])
        connection = self._connection()
        try:
            with TerminationSignals():  # a program that is terminated while it waits leaves no job on C2
                opened = open_session(
                    connection,
                    SessionOptions(job, float(idle_limit_s), wait_limit_s),
                    os.environ,
                    say or _say,
                )
        except BaseException:
            connection.close()
            raise
        return Session(opened.client, opened.job_id, on_close=connection.close)

    def job(self, job_id: int | str) -> Job:
        """The future of an earlier job, by its id or its submission key (which a follow-up has).

        InvalidInputError for an invalid job id; UnknownJobError for an unknown key.
        """
        self._connections.refuse_if_closed()
        job = Job(self, self._id_of(job_id), self._config.prefix)
        with self._lock:
            self._connections.refuse_if_closed()  # it would not be watched
            self._jobs = [known for known in self._jobs if not known.done()]
            self._jobs.append(job)
        self._watch(job)
        return job

    def _id_of(self, job_id: int | str) -> int:
        from qslurm.c1.queries.job_ids import parse_ref
        from qslurm.c1.queries.job_state import with_key

        if isinstance(job_id, bool) or not isinstance(job_id, int | str):
            raise InvalidInputError(f"{job_id!r:.40} is not a job id.")
        ref = parse_ref(str(job_id))
        if ref.task is not None or ref.platform not in ("", self._config.platform):
            raise InvalidInputError(
                f"{str(ref)!r} is not a job id of this center.",
                hint="For tasks use center.job(12).result().tasks; open another Center for another platform.",
            )
        if not ref.key:
            return ref.job_id
        with self._connections.one() as center:
            return with_key(center, ref.key)

    def jobs(self) -> list[JobInfo]:
        """The center's jobs in C2's slurmctld: pending, running, or ended recently."""
        with self._connections.one() as center:
            return [job for job in center.slurm.jobs() if job.user == center.slurm.user]

    def backends(self) -> list[dict[str, Any]]:
        """C2's backends: name, state, reason, qubits, max_shots, default_shots, queued, executing."""
        with self._connections.one() as center:
            return center.job_manager.backends()

    def look(self, job_id: int) -> JobInfo:
        """A job's current state on C2; UnknownJobError if this center has no such job."""
        from qslurm.c1.queries import job_state

        with self._connections.one() as center:
            return job_state.look(center, job_id)

    def tasks(self, job_id: int) -> list[JobInfo]:
        """The current state of each task of an array or a sweep; pending tasks may share a record."""
        from qslurm.c1.queries import tasks
        from qslurm.c1.queries.job_ids import JobRef

        with self._connections.one() as center:
            return list(tasks.look(center, JobRef(job_id)).jobs)

    def cancel(self, job_id: int) -> bool:
        """Cancel a job; False if it had already ended."""
        with self._connections.one() as center:
            return not center.slurm.cancel(job_id)

    def logs(self, job_id: int) -> str:
        """The output of a job so far."""
        from qslurm.c1.connection.job_manager import log_pieces

        with self._connections.one() as center:
            return b"".join(log_pieces(center.job_manager, job_id)).decode(errors="replace")

    def _connection(self) -> CenterConnection:
        from qslurm.c1.connection.center_connection import open_connection

        return open_connection(self._config)

    def _settle(self, job: Job | ArrayFutures, reported: Sequence[JobInfo]) -> Result | None:
        """Check a job; called only by the watcher's thread, which has its own connection."""
        if isinstance(job, ArrayFutures):
            return settle_tasks(self._for_watching, job, reported)
        return settle_job(self._for_watching, job.id, reported)


def _say(reason: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):  # a closed terminal, a full disk
            print(f"qslurm: {reason}", file=sys.stderr, flush=True)
