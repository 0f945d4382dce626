"""Runs the gate and the feeder until SIGTERM or SIGINT."""

from __future__ import annotations

import select
import signal
import socket
import time
from contextlib import closing

from qslurm.c2.config.file import C2Config, partition_of
from qslurm.c2.gate.feeder import Feeder
from qslurm.c2.gate.gate import Gate
from qslurm.c2.hooks import gate_notifier
from qslurm.errors import QslurmError
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.system.logfmt import Field, say

SOON_S = 0.1
"""From an epilog's notification to scheduling: slurmctld needs it to notice that the epilog has ended."""


def serve(config: C2Config) -> None:
    """Check every `interval_s` until SIGTERM or SIGINT."""
    stop, stop_sender = socket.socketpair()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop_sender.send(b"!"))
    dispatcher, timeout_s = config.dispatcher, config.gate.admit_timeout_s
    with (
        DispatcherClient(
            dispatcher.socket, munge_socket=dispatcher.munge_socket, timeout_s=timeout_s
        ) as client,
        closing(_end_notifications(config.gate.state)) as ended,
    ):
        feeder = Feeder(config, _say)
        gate = Gate(config, client, _say, feeder.queue)
        feeder.start()
        partitions = ",".join(partition_of(backend.name) for backend in config.backend)
        _say("watching", partitions=partitions or "none")
        is_stopped = False
        while not is_stopped:
            gate.check(time.time(), time.monotonic())
            next_check = time.monotonic() + config.gate.interval_s
            if _wait(next_check, ended, stop) is ended:
                time.sleep(SOON_S)
                gate_notifier.drain(ended)
                gate.job_ended()
            is_stopped = _wait(next_check, stop) is stop
        gate.close()
        feeder.stop()
    _say("stopped")


def _end_notifications(state: str) -> socket.socket:
    try:
        return gate_notifier.listen(state, gate_notifier.ENDED)
    except OSError as error:
        raise QslurmError(
            f"Cannot listen in the gate's directory {state}: {error.strerror or error}.",
            hint="Check that SlurmUser owns this directory.",
        ) from error


def _say(event: str, level: str = "info", **fields: Field) -> None:
    say("gate", event, level, **fields)


def _wait(until: float, *notified: socket.socket) -> socket.socket | None:
    """Wait until one of these is readable; returns the first that is, None after `until` (monotonic seconds)."""
    readable, _, _ = select.select(notified, [], [], max(0.0, until - time.monotonic()))
    return readable[0] if readable else None
