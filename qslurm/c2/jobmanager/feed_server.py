"""Receives C2's jobs from the gate while clients follow them, and reports which centers' jobs have changed."""

from __future__ import annotations

import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qslurm.c2.jobmanager.center_changes import CenterChanges
from qslurm.errors import UnreachableError
from qslurm.protocol import feed
from qslurm.protocol.job_changes import PartitionLoad
from qslurm.protocol.partition_queue import partition_loads, queue_positions
from qslurm.slurm.job_info import JobInfo
from qslurm.system.event_log import EventLog
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.peer import peer_uid
from qslurm.wire.unix_socket import listen_unix

log = EventLog(__name__)
refusal_log = EventLog(f"{__name__}.refusals", per_minute=10)

REFUSAL_PAUSE_S = 0.01
"""Pause after a refused connection, which bounds the time that such connections cost."""

DEAD_S = 10.0
"""Seconds without a message after which the gate counts as dead."""

IDLE_S = 90.0
"""Seconds after the last request after which the gate need not read the queue any more."""

TICK_S = 2.0

T = TypeVar("T")


class FeedServer:
    """The thread that serves the gate, and C2's jobs as last received. Thread-safe.

    `trusted` are the uids that may connect. `changed` is called with each center whose jobs have changed, and with ""
    when the feed begins or ends. `was_read` is called when the gate has read the queue upon a request.
    """

    def __init__(
        self,
        path: str,
        prefix: str,
        trusted: Collection[int],
        changed: Callable[[str], None],
        was_read: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = Path(path)
        self._trusted = trusted
        self._changed = changed
        self._was_read = was_read
        self._requested = self._sent = self._answered = 0
        """Numbers of the last request for the current state: made, sent to the gate, and answered by it."""

        self._lock = threading.Lock()
        self._changes = CenterChanges(prefix)
        self._link: BlockingConnection | None = None
        self._is_wanted = False
        self._is_live = False
        self._requested_at = self._received_at = float("-inf")
        self._trouble = "The gate has not connected yet."
        self._derived: dict[Callable[..., Any], tuple[int, Any]] = {}
        """Values computed from all jobs, with the version of the table."""

        self._accepted: queue.SimpleQueue[socket.socket | None] = queue.SimpleQueue()
        self._listener = listen_unix(self._path, service="job manager", setting="feed under [jobmanager]")
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()
        self._accept_thread = threading.Thread(target=self._accept, name="feed-accept", daemon=True)
        self._accept_thread.start()

    def close(self) -> None:
        """Stop serving."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accept_thread.join()
        with self._lock:
            if self._link is not None:
                self._link.shutdown()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def read(self, question: Callable[[CenterChanges], T]) -> T | None:
        """Apply a function to the jobs, and keep the gate reading the queue; None while there are no current jobs."""
        with self._lock:
            self._requested_at = time.monotonic()
            self._want(True)
            return question(self._changes) if self._is_live else None

    def request_reading(self) -> int:
        """Request that the gate reads the queue now; returns the request's number for `is_answered`."""
        with self._lock:
            self._requested_at = time.monotonic()
            self._requested += 1
            if self._link is None:
                return 0
            if not self._is_wanted:
                self._want(True)
            elif self._sent <= self._answered:  # else the request is sent when the pending one is answered
                self._send_subscription(self._link)
            return self._requested

    def is_answered(self, request: int) -> bool:
        """Whether the gate has read the queue since this request. Does not block."""
        return self._answered >= request

    def places(self) -> dict[int, int] | None:
        """The queue positions of waiting jobs of all centers; None while there are no current jobs."""
        return self._derive(queue_positions)

    def loads(self) -> list[PartitionLoad] | None:
        """The loads of all partitions; None while there are no current jobs."""
        return self._derive(partition_loads)

    def unavailable(self) -> UnreachableError:
        """The error for clients while there are no current jobs."""
        return UnreachableError(
            f"The job manager has no current job states: {self._trouble}", hint="Query slurmrestd instead."
        )

    def _derive(self, derive: Callable[[list[JobInfo]], T]) -> T | None:
        """A value derived from all jobs, computed once for each version of the table."""
        known = self._derived.get(derive, (-1, None))

        def jobs_since(changes: CenterChanges) -> tuple[int, list[JobInfo] | None]:
            table = changes.table
            return table.version, None if table.version == known[0] else table.jobs()

        found = self.read(jobs_since)
        if found is None:
            return None
        version, jobs = found
        if jobs is not None:
            known = self._derived[derive] = version, derive(jobs)
        value: T = known[1]
        return value

    # --- in the threads ------------------------------------------------------------------------------

    def _accept(self) -> None:
        """In its own thread, so that other users' connections are refused while the gate is being served."""
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:  # closed
                self._accepted.put(None)
                return
            uid = peer_uid(link)
            if uid in self._trusted:
                self._accepted.put(link)
                continue
            link.close()
            refusal_log.warning("connection refused: not the gate", uid=uid)
            time.sleep(REFUSAL_PAUSE_S)

    def _run(self) -> None:
        while (link := self._accepted.get()) is not None:
            with BlockingConnection(link, feed.MESSAGE_LIMIT) as connection:
                self._serve(connection)

    def _serve(self, link: BlockingConnection) -> None:
        with self._lock:
            self._link, self._is_wanted, self._sent = link, False, self._answered
            self._want(time.monotonic() - self._requested_at < IDLE_S)
        log.info("gate connected")
        try:
            while True:
                self._serve_once(link)
        except (OSError, EOFError, msgspec.DecodeError) as error:
            why = "connection closed" if isinstance(error, EOFError) else str(error)
            log.warning("gate disconnected", reason=why)
        with self._lock:
            self._link = None
            self._lose("The gate is not connected.")

    def _serve_once(self, link: BlockingConnection) -> None:
        ready, _, _ = select.select([link], [], [], TICK_S)
        message = feed.gate_decoder.decode(link.receive(time.monotonic() + DEAD_S)[1]) if ready else None
        now = time.monotonic()
        touched: set[str] = set()
        was_read = False
        with self._lock:
            if message is not None:
                self._received_at = now
            if isinstance(message, feed.Update | feed.Unchanged) and message.request > self._answered:
                self._answered, was_read = message.request, True
                if self._is_wanted and self._requested > self._sent:
                    self._send_subscription(link)
            elif self._is_wanted and now - self._received_at > DEAD_S:
                raise TimeoutError("timeout")
            if isinstance(message, feed.Update):
                touched = self._changes.apply(message)
            if isinstance(message, feed.Unavailable):
                self._lose(message.reason)
            elif message is not None and self._is_wanted and not self._is_live:
                self._is_live = True
                touched.add("")
            if self._is_wanted and now - self._requested_at > IDLE_S:
                self._want(False)
                self._lose("Job states have not been requested for a while.")
        for center in touched:
            self._changed(center)
        if was_read:
            self._was_read()

    def _lose(self, why: str) -> None:
        self._trouble = why
        if self._is_live:
            self._is_live = False
            self._changed("")

    def _want(self, is_wanted: bool) -> None:
        if self._link is None or is_wanted == self._is_wanted:
            return
        self._is_wanted, self._received_at = is_wanted, time.monotonic()
        self._send_subscription(self._link)

    def _send_subscription(self, link: BlockingConnection) -> None:
        # One request is pending at a time, so the message fits into the socket buffer: this does not block.
        self._sent = self._requested
        with suppress(OSError):  # the thread notices that the connection is lost
            message = feed.Subscription(self._is_wanted, self._requested)
            link.send(msgspec.msgpack.encode(message), time.monotonic() + DEAD_S)
