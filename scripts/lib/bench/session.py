"""A session's executions at several network delays, compared with one round trip.

A process forwards all data after a delay, in both directions. The peer is an echo server behind the same delay, with
about as many bytes; the quantum runtime computes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec

from bench.hybrid import await_ready, hybrid_job
from bench.report import Report
from qslurm.c1.sessions.connect import SessionServerAddress
from qslurm.c1.sessions.session_client import SessionClient
from qslurm.c2.config.dispatcher_section import BackendConfig, DispatcherConfig, SessionsConfig
from qslurm.c2.dispatcher.dispatcher_service import serve
from qslurm.payload.envelope import Envelope
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.messages import Admitted
from qslurm.protocol.tls_certificate import ensure_certificate, read_certificate
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from qslurm.wire.credentials import SameUser

BELL = "version 3.0\nqubit[2] q\nbit[2] b\nH q[0]\nCNOT q[0], q[1]\nb = measure q\n"
SHOTS = 1024
DELAYS_MS = (0, 10, 50)
MANY = 64
SECONDS = 2.0
"""About how long one measurement takes, at most."""

TIMEOUT_S = 20.0

_fork = multiprocessing.get_context("fork")


def run(report: Report) -> None:
    """Measure single and concurrent executions at several delays."""
    with _session_server() as (server, secret, step), _child(_echo) as echo:
        for delay_ms in DELAYS_MS:
            with _child(_way, delay_ms, server.address) as far, _child(_way, delay_ms, echo) as bare:
                _over(
                    report,
                    f"{delay_ms} ms delay",
                    bare,
                    SessionServerAddress(far, server.certificate),
                    secret,
                )
        report.measure("one execution by the dispatcher's socket on C2", lambda: _each(step, 500), unit="ms")


def _over(report: Report, name: str, bare: str, server: SessionServerAddress, secret: bytes) -> None:
    """Measure at one delay: an echo, an execution, concurrent executions."""
    with socket.create_connection(_place(bare), TIMEOUT_S) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = int(min(500, max(10, SECONDS / _each(lambda: _ping(link), 3) * 1000)))
        peer = report.measure(f"{name}: echo", lambda: _each(lambda: _ping(link), times), unit="ms")
    with closing(SessionClient(server.connect, secret, say=report.note, ended=lambda: None)) as client:
        report.measure(
            f"{name}: one execution",
            lambda: _each(lambda: client.execute(BELL, SHOTS, False), times),
            unit="ms",
            peer=peer,
        )
        report.measure(
            f"{name}: {MANY} concurrent executions, all of them",
            lambda: _each(lambda: list(client.execute_many([BELL] * MANY, SHOTS, False)), 5),
            unit="ms",
            peer=peer,
        )


def _each(once: Callable[[], object], times: int) -> float:
    """The median time in milliseconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter_ns()
        once()
        taken.append(time.perf_counter_ns() - began)
    return median(taken) / 1e6


def _ping(link: socket.socket) -> None:
    link.sendall(b"x" * 300)
    left = 300
    while left:
        left -= len(link.recv(left))


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


@contextmanager
def _session_server() -> Iterator[tuple[SessionServerAddress, bytes, Callable[[], object]]]:
    """Run a dispatcher with a session; yields its address, the session's secret, and the step of another job."""
    with TemporaryDirectory(prefix="qs-", dir="/dev/shm") as name:
        folder = Path(name)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        config = DispatcherConfig(socket=str(folder / "d"), store=str(folder / "store.db"), trusted_users=[])
        sessions = SessionsConfig(listen=address, key=str(folder / "sessions.key"))
        ensure_certificate(Path(sessions.key))
        process = _fork.Process(target=_serve, args=(config, sessions))
        process.start()
        identity = SameUser()
        secret = secrets.token_bytes(32)
        try:
            with DispatcherClient(config.socket, identity=identity, timeout_s=TIMEOUT_S) as client:
                await_ready(client, TIMEOUT_S)
                digest = hashlib.sha256(secret).hexdigest()
                held = Envelope(kind="session", source="", session=digest, idle_limit_s=3600.0)
                job = msgspec.structs.replace(hybrid_job(1, "null"), kind="session", envelope=held)
                assert isinstance(client.ask(job), Admitted)
                assert isinstance(client.ask(hybrid_job(2, "null")), Admitted)
            step = DispatcherSession(
                DispatcherClient(config.socket, identity=identity, timeout_s=TIMEOUT_S), 1, 0, say=_nobody
            )
            threading.Thread(target=step.wait_for_end, daemon=True).start()
            with DispatcherClient(config.socket, identity=identity, timeout_s=TIMEOUT_S) as client:
                beside = DispatcherSession(client, 2, 0, say=_nobody)
                server = SessionServerAddress(address, read_certificate(Path(sessions.key)))
                yield server, secret, lambda: beside.execute(BELL, SHOTS, False)
        finally:
            process.terminate()
            process.join(TIMEOUT_S)


def _serve(config: DispatcherConfig, sessions: SessionsConfig) -> None:
    import logging

    logging.disable()
    backend = BackendConfig(name="null", runtime="null")
    serve(config, [backend], identity=SameUser(), sessions=sessions)


def _nobody(_: str) -> None:
    """Ignore why a session waits."""


# --- the way ------------------------------------------------------------------------------------------


@contextmanager
def _child(target: Callable[..., None], *arguments: object) -> Iterator[str]:
    """Run a process that listens; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    process = _fork.Process(target=target, args=(listener, *arguments), daemon=True)
    process.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        process.terminate()
        process.join(TIMEOUT_S)
        listener.close()


def _echo(listener: socket.socket) -> None:
    while True:
        link, _ = listener.accept()
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := link.recv(4096):
            link.sendall(data)


class _Side(asyncio.Protocol):
    """One end of a connection: forwards data to the other end after a delay."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self.other: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self.own: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.own.set_result(transport)

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self._delay_s:
            loop.call_later(self._delay_s, self._hand_on, data)
        else:
            self._hand_on(data)

    def _hand_on(self, data: bytes) -> None:
        if self.other.done():
            self.other.result().write(data)
        else:
            self.other.add_done_callback(lambda other: other.result().write(data))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self.other.done():
            self.other.result().close()


def _way(listener: socket.socket, delay_ms: int, target: str) -> None:
    asyncio.run(_carry(listener, delay_ms / 1000, target))


async def _carry(listener: socket.socket, delay_s: float, target: str) -> None:
    loop = asyncio.get_running_loop()
    kept = set()

    async def connect(near: _Side) -> None:
        far = _Side(delay_s)
        near_transport = await near.own
        far_transport, _ = await loop.create_connection(lambda: far, *_place(target))
        near.other.set_result(far_transport)
        far.other.set_result(near_transport)

    def accept() -> _Side:
        near = _Side(delay_s)
        kept.add(asyncio.ensure_future(connect(near)))
        return near

    server = await loop.create_server(accept, sock=listener)
    await server.serve_forever()
