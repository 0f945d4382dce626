"""What every bench with a dispatcher needs: to know that it is ready, and a hybrid job to admit."""

from __future__ import annotations

import os
import time

from qslurm.errors import UnreachableError
from qslurm.payload.envelope import Envelope
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.messages import Admit, GetStatus, Status

SOURCE = "def execute(qi): pass\ndef finalize(measured): return {}\n"


def await_ready(client: DispatcherClient, timeout_s: float) -> None:
    """Wait until the dispatcher's first backend can take jobs; TimeoutError if it never can."""
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
    """A hybrid job of this process's own user."""
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
