"""Waits for the center's agent to report changed jobs, so that their futures need not poll."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from qslurm.errors import QslurmError, UnreachableError

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.slurm.job_info import JobInfo

    Changes = Mapping[int, Sequence[JobInfo]]
    """Changed jobs by id, each with its new state (or its tasks'), as far as the agent sent it."""

REQUEST_S = 5.0
"""Seconds that one request waits for changes. A thread that is no longer needed ends within this time."""

RETRY_S = 5.0
"""Seconds until an agent that did not answer is queried again."""


class ChangeListener:
    """Calls `wake` with the jobs that have changed, or with None if any may have.

    Its thread runs as long as it is `wanted`, and ends at once if this connection reports no changes. An agent that
    did not answer is queried again after `retry_s`.
    """

    def __init__(
        self,
        connect: Callable[[], CenterConnection],
        wake: Callable[[Changes | None], None],
        wanted: Callable[[], bool],
        retry_s: float = RETRY_S,
    ) -> None:
        self._connect, self._wake, self._wanted, self._retry_s = connect, wake, wanted, retry_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_unsupported = False

    def listen(self) -> None:
        """Start the thread if it is not running and changes are reported."""
        with self._lock:
            if self._thread is None and not self._is_unsupported:
                # A daemon: a pending request must not keep a program from ending.
                self._thread = threading.Thread(target=self._run, name="qslurm-changes", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        center = self._connect()
        number = 0
        try:
            while self._is_needed():
                number = self._request(center, number)
        except QslurmError:  # an older agent, without this request: jobs are polled
            self._is_unsupported = True
        finally:
            center.close()
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _is_needed(self) -> bool:
        """Whether to continue; if not, the next job starts another thread."""
        with self._lock:
            if self._wanted() and not self._is_unsupported:
                return True
            self._thread = None
            return False

    def _request(self, center: CenterConnection, number: int) -> int:
        """Wait for changes after the answer with this number; the number of the new answer."""
        try:
            answer = center.changes_since(number, REQUEST_S)
        except UnreachableError:
            threading.Event().wait(self._retry_s)
            return 0
        if answer is None:
            self._is_unsupported = True
            return 0
        if answer.missed:
            self._wake(None)
        elif answer.jobs:
            states: defaultdict[int, list[JobInfo]] = defaultdict(list)
            for job in answer.states:
                states[job.array_or_job_id].append(job)
            self._wake({job_id: states[job_id] for job_id in answer.jobs})
        return answer.number
