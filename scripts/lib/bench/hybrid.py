"""Common parts of benchmarks with a dispatcher."""

from __future__ import annotations

import os
import time

from qslurm.errors import UnreachableError
from qslurm.payload.envelope import Envelope
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.messages import Admit, GetStatus, Status

SOURCE = "def execute(qi): pass\ndef finalize(measured): return {}\n"


def await_ready(client: DispatcherClient, timeout_s: float) -> None:
    """Wait until the dispatcher's first backend takes jobs; TimeoutError otherwise."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        try:
            status = client.ask(GetStatus(), timeout_s=0.2)
        except UnreachableError:
            continue
        if isinstance(status, Status) and status.backends[0].state != "offline":
            return
        time.sleep(0.01)
    raise TimeoutError("the dispatcher did not get ready")


def hybrid_job(number: int, backend: str) -> Admit:
    """The admission of a hybrid job of this process's user."""
    return Admit(
        job_id=number,
        restart=0,
        user="bench",
        uid=os.getuid(),
        account="bench",
        center="bench",
        backend=backend,
        kind="hybrid",
        envelope=Envelope(kind="hybrid", source=SOURCE),
    )
