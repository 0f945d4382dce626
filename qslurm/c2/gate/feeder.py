"""Reports the jobs on C2 to the job manager, as they change, while some center follows them.

It runs in the gate, as SlurmUser, because no other service on C2 may see all centers' jobs (PrivateData). The queue is
read by one squeue in its compact form, soon after a change: hooks report one at once (hooks/gate_notifier.py),
slurmctld within a second (change_detector.py).
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import closing

from qslurm.c2.config.file import C2Config
from qslurm.c2.gate.change_detector import ChangeDetector
from qslurm.c2.gate.feed_connection import SEND_S, FeedConnection, FeederTimings
from qslurm.c2.hooks import gate_notifier
from qslurm.c2.slurm_commands import SlurmCommands
from qslurm.errors import QslurmError
from qslurm.protocol.feed import MESSAGE_LIMIT
from qslurm.slurm.job_table import JobTable
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.unix_socket import connect_unix_socket

RETRY_S = 1.0
"""Seconds between two attempts to connect to the job manager."""

CURRENT_S = 3.0
"""Seconds for which the jobs count as known after slurmctld has reported no change."""


class Feeder:
    """The reporting thread. `say` logs an event with its fields."""

    def __init__(
        self,
        config: C2Config,
        say: Callable[..., None],
        slurm: SlurmCommands | None = None,
        *,
        timings: FeederTimings | None = None,
        detect: Callable[[SlurmCommands], ChangeDetector] = ChangeDetector,
    ) -> None:
        self._path = config.jobmanager.feed
        self._state = config.gate.state
        self._slurm = slurm or SlurmCommands(config.slurm, timeout_s=20.0)
        self._timings = timings or FeederTimings()
        self._detect = detect
        self._say = say
        self._stop_reader, self._stop_writer = os.pipe()
        self._stopping = False
        self._connection: FeedConnection | None = None
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    def queue(self) -> JobTable | None:
        """C2's jobs, at most CURRENT_S old; None while no center follows them. Thread-safe."""
        connection = self._connection
        if connection is None or time.monotonic() - connection.current_at > CURRENT_S:
            return None
        return connection.reader.table

    def start(self) -> None:
        """Start, if the configuration names the job manager's socket."""
        if self._path:
            self._thread.start()

    def stop(self) -> None:
        """Stop and wait for the thread."""
        self._stopping = True
        os.write(self._stop_writer, b"!")
        if self._path:
            self._thread.join()
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    def _run(self) -> None:
        logged = ""
        while not self._stopping:
            try:
                with (
                    BlockingConnection(connect_unix_socket(self._path, SEND_S), MESSAGE_LIMIT) as link,
                    closing(gate_notifier.listen(self._state)) as notified,
                ):
                    self._say("connected to the job manager", socket=self._path)
                    logged = ""
                    self._connection = FeedConnection(
                        link,
                        notified,
                        self._stop_reader,
                        slurm=self._slurm,
                        say=self._say,
                        timings=self._timings,
                        detect=self._detect,
                    )
                    self._connection.serve()
                    why = ""
            except EOFError:
                why = "connection closed"
            except (OSError, QslurmError) as error:
                why = str(error)
            except Exception as error:  # noqa: BLE001 -- a bug here must neither end the gate nor be silent
                why = f"{type(error).__name__}: {error}"
            self._connection = None
            if why and why != logged:
                self._say("cannot reach the job manager", "warning", why=why)
                logged = why
            select.select([self._stop_reader], [], [], RETRY_S)
