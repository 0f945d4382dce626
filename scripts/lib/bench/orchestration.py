"""One orchestration step (a circuit is sent, its counts come back) with runtimes that compute nothing; the end of a
task.

The peer is the paper's task manager (Appendix A) as printed, without its sleeps: one process that answers the classical
runtime's REQ and sends another to the quantum runtime, in JSON over TCP. The limits of the machine are measured, too: a
socket pair, and shared memory.
"""

from __future__ import annotations

import mmap
import multiprocessing
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import zmq

from bench.hybrid import await_ready, hybrid_job
from bench.report import Report
from qslurm.c2.config.dispatcher_section import BackendConfig, DispatcherConfig
from qslurm.c2.dispatcher.dispatcher_service import serve
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.messages import Admitted
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from qslurm.wire.credentials import SameUser

BELL = "version 3.0\nqubit[2] q\nbit[2] b\nH q[0]\nCNOT q[0], q[1]\nb = measure q\n"
STEPS = 5000
SLOW_STEPS = 1000
SHOTS = 1024
TASKS = 200
PAPER_END_US = 200.0
TIMEOUT_S = 20.0

_fork = multiprocessing.get_context("fork")


def run(report: Report) -> None:
    """Measure the paper's loop, the dispatcher, a lane, and the machine's limits."""
    with _papers_loop() as step:
        peer = report.measure(
            "the paper's task manager, JSON over TCP", lambda: _steps(step, SLOW_STEPS), unit="us"
        )
    with _dispatcher() as job:
        by_dispatcher, by_lane = job(lanes=False), job(lanes=True)
        report.measure(
            "through the dispatcher", lambda: _steps(by_dispatcher.step, SLOW_STEPS), unit="us", peer=peer
        )
        _steps(by_lane.step, SLOW_STEPS)  # couples, and is given its lane
        report.measure("by lane", lambda: _steps(by_lane.step, STEPS), unit="us", peer=peer)
        report.measure(
            "the end of a task, its final result stored (paper: 200 us)",
            lambda: _ends(job),
            unit="us",
            peer=PAPER_END_US,
        )
    with _socket_pair() as step:
        report.measure("limit: a socket pair, round trip", lambda: _steps(step, SLOW_STEPS), unit="us")
    with _shared_memory() as step:
        report.measure(
            "limit: a word of shared memory, both sides spinning", lambda: _steps(step, STEPS), unit="us"
        )


def _ends(job: Callable[..., Job]) -> float:
    """The median time of a task's end in microseconds, from the final result to the answer that it is stored."""
    taken = []
    for _ in range(TASKS):
        ending = job(lanes=True)
        ending.step()
        began = time.perf_counter_ns()
        ending.session.conclude(final_result="{}")
        taken.append(time.perf_counter_ns() - began)
        ending.close()
    return median(taken) / 1000


def _steps(step: Callable[[], object], number: int) -> float:
    """The median time of a step in microseconds."""
    taken = []
    for _ in range(number):
        began = time.perf_counter_ns()
        step()
        taken.append(time.perf_counter_ns() - began)
    return median(taken) / 1000


@contextmanager
def _child(target: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Run a process for the duration of the context."""
    process = _fork.Process(target=target, args=arguments, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join(TIMEOUT_S)


# --- the paper's task manager ------------------------------------------------------------------------


@contextmanager
def _papers_loop() -> Iterator[Callable[[], object]]:
    ports = [_free_port(), _free_port()]
    with _child(_task_manager, *ports), _child(_quantum_runtime, ports[1]), zmq.Context() as context:
        link = context.socket(zmq.REQ)
        link.linger = 0
        link.rcvtimeo = int(TIMEOUT_S * 1000)
        link.connect(f"tcp://127.0.0.1:{ports[0]}")

        def step() -> object:
            link.send_json({"command": "execute", "circuit": BELL, "number_of_shots": SHOTS})
            return link.recv_json()

        step()
        yield step
        link.close()


def _task_manager(port: int, quantum_port: int) -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as classical, context.socket(zmq.REQ) as quantum:
        classical.bind(f"tcp://127.0.0.1:{port}")
        quantum.connect(f"tcp://127.0.0.1:{quantum_port}")
        while True:
            quantum.send_json(classical.recv_json())
            classical.send_json(quantum.recv_json())


def _quantum_runtime(port: int) -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as link:
        link.bind(f"tcp://127.0.0.1:{port}")
        while True:
            request = link.recv_json()
            assert isinstance(request, dict)
            link.send_json({"status": "success", "results": {"00": request["number_of_shots"]}})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- ours --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """The step of a hybrid job."""

    client: DispatcherClient
    session: DispatcherSession

    def step(self) -> object:
        """Send a circuit and receive its counts."""
        return self.session.execute(BELL, SHOTS, False)

    def close(self) -> None:
        """Close the connections to the dispatcher."""
        self.session.close()
        self.client.close()


@contextmanager
def _dispatcher() -> Iterator[Callable[..., Job]]:
    """Run a dispatcher with a runtime that computes nothing; yields a function that makes jobs."""
    with TemporaryDirectory(prefix="qs-", dir="/dev/shm") as name:
        folder = Path(name)
        config = DispatcherConfig(socket=str(folder / "d"), store=str(folder / "store.db"), trusted_users=[])
        process = _fork.Process(target=_serve, args=(config,))
        process.start()
        identity = SameUser()
        numbers, jobs = count(1), []
        try:

            def job(*, lanes: bool) -> Job:
                client = DispatcherClient(config.socket, identity=identity, timeout_s=TIMEOUT_S)
                number = next(numbers)
                assert isinstance(client.ask(hybrid_job(number, "null")), Admitted)
                jobs.append(Job(client, DispatcherSession(client, number, 0, say=_nobody, lanes=lanes)))
                return jobs[-1]

            with DispatcherClient(config.socket, identity=identity, timeout_s=1.0) as client:
                await_ready(client, TIMEOUT_S)
            yield job
        finally:
            for one in jobs:
                one.close()
            process.terminate()
            process.join(TIMEOUT_S)


def _serve(config: DispatcherConfig) -> None:
    import logging

    logging.disable()
    serve(config, [BackendConfig(name="null", runtime="null")], identity=SameUser())


def _nobody(_: str) -> None:
    """Ignore why a session waits."""


# --- limits ------------------------------------------------------------------------------------------


@contextmanager
def _socket_pair() -> Iterator[Callable[[], object]]:
    ours, theirs = socket.socketpair()
    with ours, theirs, _child(_echo, theirs):

        def step() -> object:
            ours.send(b"x" * 100)
            return ours.recv(200)

        yield step


def _echo(link: socket.socket) -> None:
    while True:
        link.send(link.recv(200))


@contextmanager
def _shared_memory() -> Iterator[Callable[[], object]]:
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    words = memoryview(memory).cast("Q")

    def step() -> object:
        number = words[0] + 1
        words[0] = number
        while words[16] != number:
            pass
        return number

    with _child(_spin, words):
        yield step


def _spin(words: memoryview) -> None:
    while True:
        while words[16] == words[0]:
            pass
        words[16] = words[0]
