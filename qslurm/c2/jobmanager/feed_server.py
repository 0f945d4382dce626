"""Takes in what the gate says of C2's jobs, while somebody wants to know, and wakes who waits for a change."""

from __future__ import annotations

import os
import pwd
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from qslurm.c2.jobmanager.center_changes import CenterChanges
from qslurm.errors import ConfigError, UnreachableError
from qslurm.protocol import feed
from qslurm.protocol.job_changes import PartitionLoad
from qslurm.protocol.partition_queue import partition_loads, queue_positions
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.job_table import JobTable
from qslurm.system.event_log import EventLog
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.peer import peer_uid
from qslurm.wire.unix_socket import listen_unix

log = EventLog(__name__)
strangers = EventLog(f"{__name__}.strangers", a_minute=10)

STRANGER_S = 0.01
"""So long after somebody who is not the gate nobody else is looked at: strangers get no more of this process's time."""

DEAD_S = 10.0
"""So long without a word of the gate, and it is not believed to know how the jobs are."""

REST_S = 90.0
"""So long after the last question the gate may rest."""

TICK_S = 2.0

T = TypeVar("T")


class FeedServer:
    """A thread that listens to the gate. `changed` is called with each center whose jobs have changed.

    `changed("")` says that everybody should look again: there is a feed now, or none any more. `looked` is called when
    the gate has looked because of a question.
    """

    def __init__(
        self,
        path: str,
        prefix: str,
        trusted: Iterable[str],
        changed: Callable[[str], None],
        looked: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = Path(path)
        self._trusted = {0, os.getuid(), *_uids(trusted)}
        self._changed = changed
        self._tell_looked = looked
        self._questions = self._said = self._looked = 0
        """The newest question, the newest that the gate was told of, and the newest that it has looked for."""
        self._lock = threading.Lock()
        self._changes = CenterChanges(prefix)
        self._link: BlockingConnection | None = None
        self._is_wanted = False
        self._is_live = False
        self._asked = self._heard = float("-inf")
        self._trouble = "The gate has not connected yet."
        self._lines: tuple[int, dict[int, int]] = (-1, {})
        self._loads: tuple[int, list[PartitionLoad]] = (-1, [])
        """What was made of all jobs, and of which version of the table."""
        self._links: queue.SimpleQueue[socket.socket | None] = queue.SimpleQueue()
        self._listener = listen_unix(self._path, service="job manager", setting="feed under [jobmanager]")
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()
        self._entrance = threading.Thread(target=self._accept, name="feed-accept", daemon=True)
        self._entrance.start()

    def close(self) -> None:
        """Stop listening."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._entrance.join()
        with self._lock:
            if self._link is not None:
                self._link.shutdown()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def read(self, question: Callable[[CenterChanges], T]) -> T | None:
        """The answer of the table to a question; None while the gate does not say how the jobs are."""
        with self._lock:
            self._asked = time.monotonic()
            self._want(True)
            return question(self._changes) if self._is_live else None

    def demand(self) -> int:
        """Have the gate look now; the number of this question, for `has_looked`."""
        with self._lock:
            self._asked = time.monotonic()
            self._questions += 1
            if self._link is None:
                return 0
            if not self._is_wanted:
                self._want(True)
            elif self._said <= self._looked:  # else it looks just now, and is told of this when it has
                self._say_wanted(self._link)
            return self._questions

    def has_looked(self, question: int) -> bool:
        """Whether the gate has looked since that question was asked. Waits for nobody."""
        return self._looked >= question

    def places(self) -> dict[int, int] | None:
        """The place in line of each job that waits, among those of all centers; None while nobody knows."""
        changed = self.read(lambda changes: self._all_since(changes.table, self._lines[0]))
        if changed is None:
            return None
        version, rows = changed
        if rows is not None:
            self._lines = version, queue_positions(rows)
        return self._lines[1]

    def loads(self) -> list[PartitionLoad] | None:
        """How many jobs wait and run in each partition; None while nobody knows."""
        changed = self.read(lambda changes: self._all_since(changes.table, self._loads[0]))
        if changed is None:
            return None
        version, rows = changed
        if rows is not None:
            self._loads = version, partition_loads(rows)
        return self._loads[1]

    @staticmethod
    def _all_since(table: JobTable, version: int) -> tuple[int, list[JobInfo] | None]:
        """The table's version, and all jobs if it is another one: what is made of them is made once, for everybody."""
        return table.version, None if table.version == version else table.jobs()

    def silence(self) -> UnreachableError:
        """Why there is no answer."""
        return UnreachableError(
            f"The job manager has no current job states: {self._trouble}", hint="slurmrestd may."
        )

    # --- in the thread -------------------------------------------------------------------------------

    def _accept(self) -> None:
        """In a thread of its own: whoever else comes is sent away also while the gate tells of jobs."""
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:  # closed
                self._links.put(None)
                return
            uid = peer_uid(link)
            if uid in self._trusted:
                self._links.put(link)
                continue
            link.close()
            strangers.warning("connection refused: not the gate", uid=uid)
            time.sleep(STRANGER_S)

    def _run(self) -> None:
        while (link := self._links.get()) is not None:
            with BlockingConnection(link, feed.MESSAGE_LIMIT) as connection:
                self._serve(connection)

    def _serve(self, link: BlockingConnection) -> None:
        with self._lock:
            self._link, self._is_wanted, self._said = link, False, self._looked
            self._want(time.monotonic() - self._asked < REST_S)
        log.info("gate connected")
        try:
            while True:
                self._hear(link)
        except (OSError, EOFError, msgspec.DecodeError) as error:
            why = "connection closed" if isinstance(error, EOFError) else str(error)
            log.warning("gate disconnected", reason=why)
        with self._lock:
            self._link = None
            self._lose("The gate is not connected.")

    def _hear(self, link: BlockingConnection) -> None:
        ready, _, _ = select.select([link], [], [], TICK_S)
        message = feed.gate_decoder.decode(link.receive(time.monotonic() + DEAD_S)[1]) if ready else None
        now = time.monotonic()
        touched: set[str] = set()
        has_looked = False
        with self._lock:
            if message is not None:
                self._heard = now
            if isinstance(message, feed.Update | feed.Unchanged) and message.look > self._looked:
                self._looked, has_looked = message.look, True
                if self._is_wanted and self._questions > self._said:
                    self._say_wanted(link)
            elif self._is_wanted and now - self._heard > DEAD_S:
                raise TimeoutError("timeout")
            if isinstance(message, feed.Update):
                touched = self._changes.apply(message)
            if isinstance(message, feed.Unavailable):
                self._lose(message.reason)
            elif message is not None and self._is_wanted and not self._is_live:
                self._is_live = True
                touched.add("")
            if self._is_wanted and now - self._asked > REST_S:
                self._want(False)
                self._lose("Job states have not been requested for a while.")
        for center in touched:
            self._changed(center)
        if has_looked:
            self._tell_looked()

    def _lose(self, why: str) -> None:
        self._trouble = why
        if self._is_live:
            self._is_live = False
            self._changed("")

    def _want(self, is_wanted: bool) -> None:
        if self._link is None or is_wanted == self._is_wanted:
            return
        self._is_wanted, self._heard = is_wanted, time.monotonic()
        self._say_wanted(self._link)

    def _say_wanted(self, link: BlockingConnection) -> None:
        # One question is under way at a time, so what is said always fits into the link: nobody waits with the lock.
        self._said = self._questions
        with suppress(OSError):  # the thread notices that the link is gone
            wanted = feed.Subscription(self._is_wanted, self._questions)
            link.send(msgspec.msgpack.encode(wanted), time.monotonic() + DEAD_S)


def _uids(names: Iterable[str]) -> set[int]:
    try:
        return {pwd.getpwnam(name).pw_uid for name in names}
    except KeyError as error:
        raise ConfigError(
            f"[dispatcher] trusted_users names an unknown user ({error.args[0]}).",
            hint="Check trusted_users in [dispatcher].",
        ) from error
