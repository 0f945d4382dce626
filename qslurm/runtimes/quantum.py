"""The quantum runtime: a process that joins the dispatcher, executes circuits, and can be killed any time.

It speaks REQ to the dispatcher's REP side: the answer to its Join, and to each Result, is the next circuit.
"""

from __future__ import annotations

import os
import sys
import time

import msgspec

from qslurm.dispatcher.messages import Join, Message, Result, Run
from qslurm.dispatcher.wire import decode_reply, encode
from qslurm.errors import QslurmError
from qslurm.runtimes.process import end_with, restrain

_RAW_LIMIT = 64 * 1024 * 1024  # characters of raw data in one result
_WATCH_MS = 5000


class Setup(msgspec.Struct, frozen=True):
    """What the dispatcher tells the process on its standard input, as one line of JSON."""

    endpoint: str
    runtime: int
    secret: bytes
    parent: int
    qubits: int


def main() -> None:
    """What the process does until it is killed."""
    setup = msgspec.json.decode(sys.stdin.buffer.readline(), type=Setup)
    end_with(setup.parent)
    restrain()
    import zmq

    import qslurm.runtimes.qx  # noqa: F401 - ready before it joins

    with zmq.Context() as context, context.socket(zmq.REQ) as link:
        link.linger = 0
        link.connect(setup.endpoint)
        message: Message = Join(runtime=setup.runtime)
        while True:
            link.send_multipart([encode(message), setup.secret])
            while not link.poll(_WATCH_MS):
                if os.getppid() != setup.parent:
                    return
            run = decode_reply(link.recv())
            if not isinstance(run, Run):
                raise SystemExit(f"The dispatcher answered {type(run).__name__} to a quantum runtime.")
            message = perform(run, setup)


def perform(run: Run, setup: Setup) -> Result:
    """Execute one circuit; a circuit that can't be executed is a Result with an error."""
    from qslurm.runtimes.circuit import check_circuit
    from qslurm.runtimes.qx import simulate

    started = time.perf_counter()
    try:
        facts = check_circuit(run.circuit, file=run.file, max_qubits=setup.qubits)
        if run.raw_data and facts.bits * run.shots > _RAW_LIMIT:
            reason = f"Raw data of {run.shots} shots of {facts.bits} bits is more than one execution gives."
            return Result(runtime=setup.runtime, order=run.order, error=reason, kind="invalid_input")
        outcome = simulate(run.circuit, run.shots, seed=run.seed, raw_data=run.raw_data, file=run.file)
    except QslurmError as error:
        seconds = time.perf_counter() - started
        return Result(
            runtime=setup.runtime, order=run.order, seconds=seconds, error=str(error), kind=error.kind
        )
    except MemoryError:
        seconds = time.perf_counter() - started
        reason = "The circuit needs more memory than the quantum runtime has."
        return Result(
            runtime=setup.runtime, order=run.order, seconds=seconds, error=reason, kind="job_failed"
        )
    return Result(
        runtime=setup.runtime,
        order=run.order,
        shots_done=outcome.shots_done,
        counts=outcome.counts,
        raw_data=outcome.raw_data,
        seconds=outcome.seconds,
    )
