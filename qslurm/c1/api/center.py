"""A center's C2 for Python programs: submit jobs, get futures, fetch what they gave."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qslurm.c1.api.agent_changes import ChangeListener
from qslurm.c1.api.connection_pool import ConnectionPool
from qslurm.c1.api.futures import ArrayFutures, settled, tasks_settled
from qslurm.c1.api.job import Job
from qslurm.c1.api.job_watcher import JobWatcher
from qslurm.c1.api.mapping import AT_ONCE, PendingJob, Results, cancel_all, send_all
from qslurm.c1.api.option_checks import (
    check_buffersize,
    check_seconds,
    check_then,
    job_of,
    refuse_unknown,
    session_of,
)
from qslurm.c1.api.result import Result
from qslurm.c1.submission.backend_limits import BackendLimits
from qslurm.errors import InvalidInputError, NotReadyError

if TYPE_CHECKING:
    from qslurm.c1.api.session import Session
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.followups.followup_submission import FollowUpCondition
    from qslurm.payload.spec import JobSpec
    from qslurm.slurm.job_info import JobInfo

Source = str | os.PathLike[str]

_all: weakref.WeakSet[Center] = weakref.WeakSet()
"""Those that are there, for a process that is forked off."""


def _after_fork() -> None:
    for center in list(_all):
        center._begin_anew()


os.register_at_fork(after_in_child=_after_fork)


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
        _all.add(self)

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
        """Close the connections. Jobs go on; a future that is still open ends with a NotReadyError that says so."""
        with self._lock:  # a job is added before that, and given up below, or refused
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

    def _ask_limits(self) -> list[dict[str, Any]]:
        with self._connections.one() as center:
            return center.job_manager.limits() if center.has_job_manager else []

    def _connect(self) -> None:
        self._connections, self._for_watching = ConnectionPool(self._connection), self._connection()
        self._limits = BackendLimits(self._ask_limits)
        self._watcher = JobWatcher(self._settle)
        self._listener = ChangeListener(
            self._connection, self._watcher.wake, lambda: self._watcher.is_waiting
        )

    def _watch(self, job: Job | ArrayFutures) -> None:
        self._watcher.add(job)
        self._listener.listen()

    def _begin_anew(self) -> None:
        """In a process that was forked off: the connections are its parent's, and no thread looks after jobs.

        Two who ask on one connection would get each other's answers.
        """
        self._lock = threading.Lock()
        if not self._connections.is_closed:
            self._connect()
            awaited: list[Job | ArrayFutures] = [*self._jobs, *self._arrays]
            for job in awaited:
                if not job.done():
                    self._watch(job)

    def submit(
        self,
        source: Source,
        *,
        then: str | Path | None = None,
        then_if: FollowUpCondition = "ok",
        **options: Any,
    ) -> Job:
        """Submit a job: a file's name, or the text itself of a circuit, a hybrid Python file or a batch script.

        The options are those of `qslurm submit`, with _ for -; `time` is written as for sbatch ("10:00"). A string with
        a line break, or that begins as a circuit does ("version 3.0; …"), is a text. With `backend="any"` it is the
        first free one of this platform that has enough qubits: the circuit's, or `qubits` for other jobs. `then` is a
        script for sbatch here, held until the job has ended; its id is `job.follow_up`. `set` gives names their values,
        such as {"phi": 0.5}, and `sweep` several, such as {"theta": "0:3.14:0.1"} or {"theta": [0.1, 0.2]}; the result
        of a sweep, or of an array, has `tasks`.

        Raises what the command would report: InvalidInputError (CircuitError with line and column), RefusedError,
        TokenError, UnreachableError; after an UncertainError the job may be on C2. TypeError for an unknown option.
        """
        from qslurm.c1.followups.followup_submission import followed
        from qslurm.c1.submission.sending import Batch

        self._connections.refuse_if_closed()
        check_then(then_if)
        jobs = self._placed([job_of(source, options, "submit")])
        batch = Batch(self._config, jobs, os.environ, limits=self._limits)
        payload, script = batch.packages[0].payload, Path(then) if then else None
        with self._connections.one() as center, followed(center, payload, script, then_if) as follow_up:
            submitted = batch.send_whole(center)
        job = self.job(submitted.job_id)
        job.follow_up = follow_up
        return job

    def _placed(self, jobs: list[JobSpec]) -> list[JobSpec]:
        """The jobs, those for any backend for the one that fits all of these."""
        from qslurm.c1.queries.lists import backends
        from qslurm.c1.submission.backend_candidates import chosen, offers_of
        from qslurm.c1.submission.backend_selection import Need, Offer

        def offers(_names: Sequence[str], _need: Need) -> list[Offer]:
            with self._connections.one() as center:
                return offers_of(self._config, backends(center))

        platform = self._config.platform
        return chosen(self._config, jobs, [platform], platform, offers)[0]

    def map(
        self,
        sources: Iterable[Source],
        *,
        timeout: float | None = None,
        buffersize: int = 2 * AT_ONCE,
        return_exceptions: bool = False,
        **options: Any,
    ) -> Results[Source]:
        """Submit a job for each source at once, and give their results in this order.

        `options` are those of `submit`. Twenty or more circuits or hybrid files that have the same options are sent as
        the tasks of arrays. As with `Executor.map`, the first job that did not complete raises, and there is a
        TimeoutError after `timeout` seconds from now; with `return_exceptions`, as with `asyncio.gather`, an error is
        given in the place of its result, and the others follow. Ending the iteration early cancels what is left, and
        so does an error that ends the block of this center. No more than `buffersize` sources are read ahead of the
        results that were taken, so there may be any number of them.
        """
        self._connections.refuse_if_closed()
        if isinstance(sources, str | bytes | os.PathLike):
            raise InvalidInputError("map takes a list of jobs; use submit for a single one.")
        check_buffersize(buffersize)
        refuse_unknown(options.keys() - {"then", "then_if"}, "map")
        results = Results(
            sources,
            lambda part: self._send(part, options),
            self._cancel_all,
            end=None if timeout is None else time.monotonic() + timeout,
            buffersize=buffersize,
            return_exceptions=return_exceptions,
        )
        self._maps.add(results)
        return results

    def _send(self, sources: list[Source], options: Mapping[str, Any]) -> list[PendingJob]:
        self._connections.refuse_if_closed()
        from qslurm.c1.submission.sending import Batch

        if options.get("then"):  # each has a follow-up of its own
            sent: list[Job] = []
            try:
                for source in sources:
                    sent.append(self.submit(source, **options))
            except BaseException:
                self._cancel_all([job.id for job in sent])
                raise
            return [(job.id, job) for job in sent]
        check_then(options.get("then_if", "ok"))
        rest = {name: value for name, value in options.items() if name not in ("then", "then_if")}
        jobs = self._placed([job_of(source, rest, "map") for source in sources])
        batch = Batch(self._config, jobs, os.environ, limits=self._limits)
        return send_all(self._connection, batch, self._futures)

    def _cancel_all(self, jobs: Sequence[int]) -> None:
        cancel_all(self._connection, jobs)

    def _futures(self, job_id: int, tasks: int | None) -> list[Future[Result]]:
        if tasks is None:
            return [self.job(job_id)]
        array = ArrayFutures(job_id, tasks)
        with self._lock:
            self._connections.refuse_if_closed()  # nobody would look after it
            self._arrays = [*(known for known in self._arrays if not known.done()), array]
        self._watch(array)
        return array.futures

    def session(
        self,
        *,
        idle_limit_s: float = 60.0,
        wait_limit_s: float | None = None,
        say: Callable[[str], None] | None = None,
        **options: Any,
    ) -> Session:
        """Have C2 hold a backend for a loop that runs here, and give its `qi`: `with center.session(…) as qi:`.

        Returns when C2 holds it. `say` is told why that takes its time, and when the link breaks (default: a line on
        stderr). The session ends with the block, also when SIGTERM ends the program (scancel, a time limit); at its own
        time limit; or when nothing was asked of it for `idle_limit_s`, which is what a program leaves behind that was
        killed at once. TimedOutError if it has not begun after `wait_limit_s`. The other options are those of
        `qslurm session`, with _ for -; errors are those of `submit`.
        """
        from qslurm.c1.api.session import Session
        from qslurm.c1.sessions.opening import SessionOptions, open_session
        from qslurm.c1.sessions.termination import TerminationSignals

        self._connections.refuse_if_closed()
        check_seconds({"idle_limit_s": idle_limit_s, "wait_limit_s": wait_limit_s})
        (job,) = self._placed([session_of(options)])
        wish = SessionOptions(job, float(idle_limit_s), wait_limit_s)
        connection = self._connection()
        try:
            with TerminationSignals():  # who waits and is told to end leaves no job on C2
                opened = open_session(connection, wish, os.environ, say or _say)
        except BaseException:
            connection.close()
            raise
        return Session(opened.client, opened.job_id, then=connection.close)

    def job(self, job_id: int | str) -> Job:
        """The future of a job that has been submitted before, by its id or its key (which a follow-up has).

        InvalidInputError for what is no job id; UnknownJobError for a key that C2 does not know.
        """
        self._connections.refuse_if_closed()
        job = Job(self, self._id_of(job_id), self._config.prefix)
        with self._lock:
            self._connections.refuse_if_closed()  # nobody would look after it
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
        """The center's jobs that C2's slurmctld knows, waiting, running or ended a moment ago."""
        with self._connections.one() as center:
            return [job for job in center.slurm.jobs() if job.user == center.slurm.user]

    def backends(self) -> list[dict[str, Any]]:
        """C2's backends: name, state, reason, qubits, max_shots, default_shots, queued, executing."""
        with self._connections.one() as center:
            return center.job_manager.backends()

    def look(self, job_id: int) -> JobInfo:
        """A job as C2 sees it now; UnknownJobError if it is none of this center's."""
        from qslurm.c1.queries import job_state

        with self._connections.one() as center:
            return job_state.look(center, job_id)

    def tasks(self, job_id: int) -> list[JobInfo]:
        """Each task of an array or a sweep as C2 sees it now; those that wait may share a record."""
        from qslurm.c1.queries import tasks
        from qslurm.c1.queries.job_ids import JobRef

        with self._connections.one() as center:
            return list(tasks.look(center, JobRef(job_id)).jobs)

    def cancel(self, job_id: int) -> bool:
        """Have C2 cancel a job; False if it was over already."""
        with self._connections.one() as center:
            return not center.slurm.cancel(job_id)

    def logs(self, job_id: int) -> str:
        """What a job has written so far."""
        from qslurm.c1.connection.job_manager import log_pieces

        with self._connections.one() as center:
            return b"".join(log_pieces(center.job_manager, job_id)).decode(errors="replace")

    def _connection(self) -> CenterConnection:
        from qslurm.c1.connection.center_connection import open_connection

        return open_connection(self._config)

    def _settle(self, job: Job | ArrayFutures) -> Result | None:
        """Look at a job for its future; called by the watcher's thread only, which has a connection of its own."""
        if isinstance(job, ArrayFutures):
            return tasks_settled(self._for_watching, job)
        return settled(self._for_watching, job.id)


def _say(reason: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):  # a terminal that is gone, a full disk
            print(f"qslurm: {reason}", file=sys.stderr, flush=True)
