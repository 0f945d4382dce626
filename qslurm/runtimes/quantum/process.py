"""The process of a quantum runtime: it joins the dispatcher, executes circuits, and can be killed any time.

It speaks DEALER to the dispatcher's ROUTER: the answer to its Join, and to each Result, is the next circuit; in
between it may Report how its target is. What executes is a plug-in (plugin.py), chosen by name.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING

import msgspec

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.errors import JobFailedError, QslurmError
from qslurm.protocol.dispatcher_frames import decode_reply, encode
from qslurm.protocol.messages import Execute, Join, Lease, LeaseOver, Message, Report, Result, Run
from qslurm.runtimes.health import Health, TryLaterError
from qslurm.runtimes.interface import Outcome
from qslurm.runtimes.lanes.lane_service import serve_lease
from qslurm.runtimes.lanes.logbook import Logbook
from qslurm.runtimes.plugin import Attended, BackendFacts, QuantumRuntime, find_plugin, read_options
from qslurm.runtimes.quantum.seccomp import shut_in
from qslurm.system.child_process import end_with, restrain

if TYPE_CHECKING:
    import zmq

_RAW_LIMIT = 64 * 1024 * 1024  # characters of raw data in one result
_WATCH_MS = 5000
_CONNECT_MS = 30_000
_ATTEND_MS = 100


class RuntimeSetup(msgspec.Struct, frozen=True):
    """What the dispatcher tells the process on its standard input, as one line of JSON."""

    endpoint: str
    runtime: int
    secret: bytes
    parent: int
    backend: BackendConfig
    execution_limit_s: float | None  # None: no limit
    wire: int
    logbook: int


def main() -> None:
    """What the process does until it is killed."""
    try:
        setup = msgspec.json.decode(sys.stdin.buffer.readline(), type=RuntimeSetup)
    except msgspec.DecodeError:
        raise SystemExit(1) from None  # whoever started it has ended before it had said everything
    end_with(setup.parent)
    signal.signal(signal.SIGTERM, _end)
    restrain()
    import zmq

    logbook = Logbook(setup.logbook)  # before memory is limited
    try:
        runtime = make_runtime(setup.backend, setup.execution_limit_s)
        runtime.open()  # ready before it joins
    except QslurmError as error:
        raise SystemExit(str(error)) from error
    try:
        with zmq.Context() as context, context.socket(zmq.DEALER) as link:
            link.linger = 0
            _connect(link, setup.endpoint)
            if getattr(runtime, "confined", False):
                shut_in()  # from here on it reads what users wrote
            _serve(_DispatcherLink(link, setup, logbook), runtime, setup)
    finally:
        runtime.close()


def _connect(link: zmq.Socket[bytes], endpoint: str) -> None:
    """Connect, and wait until that is done: it is done by another thread, which can't do it later."""
    import zmq
    from zmq.utils.monitor import recv_monitor_message

    with link.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED) as monitor:
        link.connect(endpoint)
        if not monitor.poll(_CONNECT_MS):
            raise SystemExit("The dispatcher accepts no connection.")
        recv_monitor_message(monitor)
        link.disable_monitor()


def make_runtime(backend: BackendConfig, execution_limit_s: float | None = None) -> QuantumRuntime:
    """The runtime that a backend's configuration asks for, not opened yet; ConfigError if there is none."""
    plugin = find_plugin(backend.runtime)
    options = read_options(plugin, backend.options, f"backend {backend.name!r}")
    facts = BackendFacts(
        name=backend.name,
        qubits=backend.qubits,
        max_shots=backend.max_shots,
        default_shots=backend.default_shots,
        execution_limit_s=float("inf") if execution_limit_s is None else execution_limit_s,
    )
    return plugin(facts, options)


class _DispatcherLink:
    """What is said to the dispatcher, and comes from it."""

    def __init__(self, link: zmq.Socket[bytes], setup: RuntimeSetup, logbook: Logbook) -> None:
        self._socket = link
        self._setup = setup
        self._reported: Report | None = None
        self.wire = socket.socket(fileno=setup.wire)
        self.logbook = logbook

    def say(self, message: Message) -> None:
        self._socket.send_multipart([b"", encode(message), self._setup.secret])

    def report(self, health: Health, runtime: QuantumRuntime) -> None:
        """Say how the target is, if that is news."""
        report = Report(runtime=self._setup.runtime, health=health, backend_type=runtime.backend_type)
        if report != self._reported:
            self.say(report)
            self._reported = report

    def next(self, patience_ms: int) -> Run | Lease | None:
        """The next circuit, or a lane to serve; None if there is neither for so long."""
        if not self._socket.poll(patience_ms):
            return None
        order = decode_reply(self._socket.recv_multipart()[-1])
        if not isinstance(order, Run | Lease):
            raise SystemExit(f"Unexpected message from the dispatcher: {type(order).__name__}.")
        return order


def _serve(link: _DispatcherLink, runtime: QuantumRuntime, setup: RuntimeSetup) -> None:
    attended = runtime if isinstance(runtime, Attended) else None
    link.report(attended.attend() if attended else Health(), runtime)
    link.say(Join(runtime=setup.runtime))
    while os.getppid() == setup.parent:
        order = link.next(_ATTEND_MS if attended else _WATCH_MS)
        if isinstance(order, Lease):
            _serve_lease(order, link, runtime, setup)
            continue
        result = perform(order, runtime, setup) if order is not None else None
        if attended is not None:
            link.report(_health_after(result, attended.attend()), runtime)
        if result is not None:
            link.say(result)


def _serve_lease(lease: Lease, link: _DispatcherLink, runtime: QuantumRuntime, setup: RuntimeSetup) -> None:
    """Serve the lanes of a lease until it is over; a target that is not ready any more ends it, too."""
    from qslurm.circuits.check import check_circuit

    attended = runtime if isinstance(runtime, Attended) else None

    def execute(message: Execute) -> Outcome:
        check_circuit(message.circuit, max_qubits=setup.backend.qubits)
        try:
            return runtime.execute(
                message.circuit, message.shots, seed=message.seed, raw_data=False, file="circuit"
            )
        except MemoryError as error:
            raise JobFailedError("The circuit needs more memory than the quantum runtime has.") from error

    def goes_on() -> bool:
        if attended is not None:
            health = attended.attend()
            link.report(health, runtime)
            if not health.ready:
                return False
        return os.getppid() == setup.parent

    watch_ms = _ATTEND_MS if attended else _WATCH_MS
    kept = serve_lease(lease, link.wire, link.logbook, execute, goes_on=goes_on, watch_s=watch_ms / 1000)
    link.say(LeaseOver(runtime=setup.runtime, kept=kept))


def _health_after(result: Result | None, health: Health) -> Health:
    """A target that gives a circuit back is not ready, whatever it says: else it would get it again at once."""
    if result is not None and result.kind == TryLaterError.kind and not result.begun and health.ready:
        return Health("offline", result.error.rstrip("."))
    return health


def perform(run: Run, runtime: QuantumRuntime, setup: RuntimeSetup) -> Result:
    """Execute one circuit; a circuit that can't be executed is a Result with an error."""
    from qslurm.circuits.check import check_circuit

    started = time.perf_counter()

    def failed(error: str, kind: str, *, begun: bool = False) -> Result:
        seconds = time.perf_counter() - started
        return Result(
            runtime=setup.runtime, order=run.order, seconds=seconds, error=error, kind=kind, begun=begun
        )

    try:
        facts = check_circuit(run.circuit, file=run.file, max_qubits=setup.backend.qubits)
        if run.raw_data and facts.bits * run.shots > _RAW_LIMIT:
            reason = (
                f"Raw data of {run.shots} shots with {facts.bits} bits exceeds the limit of one execution."
            )
            return failed(reason, "invalid_input")
        outcome = runtime.execute(run.circuit, run.shots, seed=run.seed, raw_data=run.raw_data, file=run.file)
    except TryLaterError as error:
        return failed(str(error), error.kind, begun=error.begun)
    except QslurmError as error:
        return failed(str(error), error.kind)
    except MemoryError:
        return failed("The circuit needs more memory than the quantum runtime has.", "job_failed")
    return Result(
        runtime=setup.runtime,
        order=run.order,
        shots_done=outcome.shots_done,
        counts=outcome.counts,
        raw_data=outcome.raw_data,
        seconds=outcome.seconds,
    )


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)  # so that `close` is called
