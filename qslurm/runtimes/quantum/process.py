"""The process of a quantum runtime: joins the dispatcher, executes circuits, and can be killed at any time.

It is a DEALER to the dispatcher's ROUTER: the reply to its Join, and to each OrderResult, is the next circuit; in
between it may Report its target's health. A plug-in (plugin.py), chosen by name, executes.
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
from qslurm.protocol.messages import Execute, Join, Lease, LeaseOver, Message, OrderResult, Report, Run
from qslurm.runtimes.health import Health, TryLaterError
from qslurm.runtimes.interface import Outcome
from qslurm.runtimes.lanes.lane_service import serve_lease
from qslurm.runtimes.lanes.logbook import Logbook
from qslurm.runtimes.plugin import Attended, BackendFacts, QuantumRuntime, find_plugin, read_options
from qslurm.runtimes.quantum.seccomp import apply_filter
from qslurm.system.child_process import end_with, restrain

if TYPE_CHECKING:
    import zmq

_RAW_LIMIT = 64 * 1024 * 1024  # characters of raw data in one result
_WATCH_MS = 5000
_CONNECT_MS = 30_000
_ATTEND_MS = 100


class RuntimeSetup(msgspec.Struct, frozen=True):
    """The process's input, as one line of JSON on its standard input."""

    endpoint: str
    runtime: int
    secret: bytes
    parent: int
    backend: BackendConfig
    execution_limit_s: float | None  # None: no limit
    wire: int
    logbook: int


def main() -> None:
    """The process's main function; runs until the process is killed."""
    try:
        setup = msgspec.json.decode(sys.stdin.buffer.readline(), type=RuntimeSetup)
    except msgspec.DecodeError:
        raise SystemExit(1) from None  # its parent ended before it wrote the whole line
    end_with(setup.parent)
    signal.signal(signal.SIGTERM, _exit)
    restrain()
    import zmq

    logbook = Logbook(setup.logbook)  # before memory is limited
    try:
        runtime = make_runtime(setup.backend, setup.execution_limit_s)
        runtime.open()  # before it joins
    except QslurmError as error:
        raise SystemExit(str(error)) from error
    try:
        with zmq.Context() as context, context.socket(zmq.DEALER) as link:
            link.linger = 0
            _connect(link, setup.endpoint)
            if getattr(runtime, "confined", False):
                apply_filter()  # before the first circuit
            _serve(_DispatcherLink(link, setup, logbook), runtime, setup)
    finally:
        runtime.close()


def _connect(link: zmq.Socket[bytes], endpoint: str) -> None:
    """Connect, and wait for the handshake: libzmq's thread cannot connect under the filter."""
    import zmq
    from zmq.utils.monitor import recv_monitor_message

    with link.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED) as monitor:
        link.connect(endpoint)
        if not monitor.poll(_CONNECT_MS):
            raise SystemExit("The dispatcher accepts no connection.")
        recv_monitor_message(monitor)
        link.disable_monitor()


def make_runtime(backend: BackendConfig, execution_limit_s: float | None = None) -> QuantumRuntime:
    """The runtime that a backend's configuration names, not opened yet; ConfigError if there is none."""
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
    """The connection to the dispatcher, and the descriptors for lanes."""

    def __init__(self, link: zmq.Socket[bytes], setup: RuntimeSetup, logbook: Logbook) -> None:
        self._socket = link
        self._setup = setup
        self._last_report: Report | None = None
        self.wire = socket.socket(fileno=setup.wire)
        self.logbook = logbook

    def send(self, message: Message) -> None:
        self._socket.send_multipart([b"", encode(message), self._setup.secret])

    def report(self, health: Health, runtime: QuantumRuntime) -> None:
        """Report the target's health, if it has changed."""
        report = Report(runtime=self._setup.runtime, health=health, backend_type=runtime.backend_type)
        if report != self._last_report:
            self.send(report)
            self._last_report = report

    def next(self, patience_ms: int) -> Run | Lease | None:
        """The next circuit or lease; None if neither arrives in time."""
        if not self._socket.poll(patience_ms):
            return None
        message = decode_reply(self._socket.recv_multipart()[-1])
        if not isinstance(message, Run | Lease):
            raise SystemExit(f"Unexpected message from the dispatcher: {type(message).__name__}.")
        return message


def _serve(link: _DispatcherLink, runtime: QuantumRuntime, setup: RuntimeSetup) -> None:
    attended = runtime if isinstance(runtime, Attended) else None
    link.report(attended.attend() if attended else Health(), runtime)
    link.send(Join(runtime=setup.runtime))
    while os.getppid() == setup.parent:
        message = link.next(_ATTEND_MS if attended else _WATCH_MS)
        if isinstance(message, Lease):
            _serve_lease(message, link, runtime, setup)
            continue
        result = perform(message, runtime, setup) if message is not None else None
        if attended is not None:
            link.report(_health_after(result, attended.attend()), runtime)
        if result is not None:
            link.send(result)


def _serve_lease(lease: Lease, link: _DispatcherLink, runtime: QuantumRuntime, setup: RuntimeSetup) -> None:
    """Serve a lease's lanes until it is over; a target that is not ready ends it, too."""
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

    def may_continue() -> bool:
        if attended is not None:
            health = attended.attend()
            link.report(health, runtime)
            if not health.ready:
                return False
        return os.getppid() == setup.parent

    watch_ms = _ATTEND_MS if attended else _WATCH_MS
    kept = serve_lease(
        lease, link.wire, link.logbook, execute, may_continue=may_continue, watch_s=watch_ms / 1000
    )
    link.send(LeaseOver(runtime=setup.runtime, kept=kept))


def _health_after(result: OrderResult | None, health: Health) -> Health:
    """A target that returns a circuit is not ready, whatever it reports: otherwise it would get it again at once."""
    if result is not None and result.kind == TryLaterError.kind and not result.begun and health.ready:
        return Health("offline", result.error.rstrip("."))
    return health


def perform(run: Run, runtime: QuantumRuntime, setup: RuntimeSetup) -> OrderResult:
    """Execute one circuit; one that cannot be executed is an OrderResult with an error."""
    from qslurm.circuits.check import check_circuit

    started = time.perf_counter()

    def failed(error: str, kind: str, *, begun: bool = False) -> OrderResult:
        seconds = time.perf_counter() - started
        return OrderResult(
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
    return OrderResult(
        runtime=setup.runtime,
        order=run.order,
        shots_done=outcome.shots_done,
        counts=outcome.counts,
        raw_data=outcome.raw_data,
        seconds=outcome.seconds,
    )


def _exit(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)  # calls `close`
