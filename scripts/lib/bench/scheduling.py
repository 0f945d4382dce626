"""The time to choose the next circuit, and eight jobs at one backend.

The peer of a decision is the same one with 100 circuits queued. The peer of eight concurrent jobs is the same eight one
after the other. Each job step is a process of its own; circuits run on one QX runtime.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory

from bench.hybrid import await_ready, hybrid_job
from bench.report import Report
from qslurm.c2.config.dispatcher_section import BackendConfig, DispatcherConfig
from qslurm.c2.dispatcher.dispatcher_service import serve
from qslurm.c2.scheduling.backend_queue import BackendQueue
from qslurm.c2.scheduling.policy import POLICIES, QueuedExecution
from qslurm.c2.scheduling.queue_positions import reason
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.messages import Admitted
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from qslurm.wire.credentials import SameUser

FEW, MANY = 100, 100_000
DECISIONS = 3000
JOBS, CIRCUITS, SHOTS = 8, 100, 1024
TIMEOUT_S = 60.0
QUBITS = 3
LAYERS = "\n".join(f"Ry(0.{i}) q[{i}]\nCNOT q[{i}], q[{i + 1}]" for i in range(QUBITS - 1))
CIRCUIT = f"version 3.0\nqubit[{QUBITS}] q\nbit[{QUBITS}] b\n{LAYERS}\nb = measure q\n"

_fork = multiprocessing.get_context("fork")


def run(report: Report) -> None:
    """Measure decisions and queue positions under each policy, and eight concurrent jobs."""
    for policy in POLICIES:
        few = report.measure(
            f"{policy}: decision, {FEW:,} queued", partial(_decision, policy, FEW), unit="us"
        )
        report.measure(
            f"{policy}: decision, {MANY:,} queued", partial(_decision, policy, MANY), unit="us", peer=few
        )
        report.measure(f"{policy}: position and reason, {MANY:,} queued", partial(_place, policy), unit="us")
    for lanes in (True, False):
        _report_jobs(report, lanes=lanes)


# --- decisions ---------------------------------------------------------------------------------------


def _decision(policy: str, queued: int) -> float:
    """The median time (us) to choose the next circuit, record its end, and queue another."""
    queue, ask = _filled(policy, queued)
    taken = []
    for turn in range(DECISIONS):
        now = float(turn)
        began = time.perf_counter_ns()
        chosen = queue.take(now, now)
        assert chosen is not None
        queue.finish(chosen.task, chosen.seq, 0.5, now + 0.5)
        ask(now + 0.5)
        taken.append(time.perf_counter_ns() - began)
    return median(taken) / 1000


def _place(policy: str) -> float:
    """The median time (us) to compute a waiting circuit's position and reason."""
    queue, _ = _filled(policy, MANY)
    taken = []
    for waiting in Random(1).sample(queue.waiting_order.all(), 300):  # noqa: S311 - a sample, no secret
        began = time.perf_counter_ns()
        reason(queue, "simulated", waiting, 0.0, 0.0)
        taken.append(time.perf_counter_ns() - began)
    return median(taken) / 1000


def _filled(policy: str, queued: int) -> tuple[BackendQueue, Callable[[float], None]]:
    """A queue with circuits of 50 centers, and a function that adds one."""
    queue = BackendQueue(BackendConfig(name="simulated", policy=policy))
    random, numbers = Random(1), count(1)  # noqa: S311

    def ask(now: float) -> None:
        number = next(numbers)
        job = random.randrange(1 + queued // 8)
        queue.add(QueuedExecution(job, number, number, f"center{job % 50}", job, hybrid=True), now)

    for _ in range(queued):
        ask(0.0)
    return queue, ask


# --- eight jobs --------------------------------------------------------------------------------------


def _report_jobs(report: Report, *, lanes: bool) -> None:
    how = "" if lanes else ", without lanes"
    after: list[float] = []
    at_once: list[float] = []
    least: list[float] = []
    most: list[float] = []
    for _ in range(report.runs):
        after.append(
            _rate([times for job in range(JOBS) for times in _jobs([job], lanes=lanes)], one_by_one=True)
        )
        together = _jobs(list(range(JOBS)), lanes=lanes)
        at_once.append(_rate(together, one_by_one=False))
        until = min(times[-1] for times in together)
        shares = [sum(at <= until for at in times) for times in together]
        fair = sum(shares) / JOBS
        least.append(100 * min(shares) / fair)
        most.append(100 * max(shares) / fair)
    peer = report.add(f"{JOBS} jobs one after the other{how}", after, unit="1/s")
    report.add(f"{JOBS} concurrent jobs{how}", at_once, unit="1/s", peer=peer)
    report.add(f"smallest share of a job, of a fair one{how}", least, unit="%")
    report.add(f"largest share of a job, of a fair one{how}", most, unit="%")


def _rate(jobs: list[list[float]], *, one_by_one: bool) -> float:
    """Executions a second; `jobs` are for each job its start and the times (s) of its results."""
    done = sum(len(times) - 1 for times in jobs)
    if one_by_one:
        return done / sum(times[-1] - times[0] for times in jobs)
    return done / (max(times[-1] for times in jobs) - min(times[0] for times in jobs))


def _jobs(numbers: list[int], *, lanes: bool) -> list[list[float]]:
    """Run these jobs concurrently."""
    with _dispatcher() as config:
        started = [_start(config, number + 1, lanes=lanes) for number in numbers]
        for link, _ in started:
            _heard(link)  # it has attached
        for link, _ in started:
            link.send("go")
        times = [_heard(link) for link, _ in started]
        for _, process in started:
            process.join(TIMEOUT_S)
        return times


def _start(
    config: DispatcherConfig, number: int, *, lanes: bool
) -> tuple[Connection, multiprocessing.process.BaseProcess]:
    ours, theirs = _fork.Pipe()
    process = _fork.Process(target=_job, args=(config, number, lanes, theirs), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _heard(link: Connection) -> list[float]:
    """Receive a job's message; EOFError if it ended without one."""
    if not link.poll(TIMEOUT_S):
        raise TimeoutError("a job says nothing")
    said = link.recv()
    assert isinstance(said, list)
    return said


def _job(config: DispatcherConfig, number: int, lanes: bool, link: Connection) -> None:
    with _client(config) as client:
        session = DispatcherSession(client, number, 0, say=_nobody, lanes=lanes)
        session.execute(CIRCUIT, SHOTS, False)
        link.send([])
        link.recv()
        times = [time.monotonic()]
        for _ in range(CIRCUITS):
            session.execute(CIRCUIT, SHOTS, False)
            times.append(time.monotonic())
        link.send(times)


@contextmanager
def _dispatcher() -> Iterator[DispatcherConfig]:
    """Run a dispatcher with one QX runtime and eight admitted jobs."""
    with TemporaryDirectory(prefix="qs-", dir="/dev/shm") as name:
        folder = Path(name)
        config = DispatcherConfig(socket=str(folder / "d"), store=str(folder / "store.db"), trusted_users=[])
        process = _fork.Process(target=_serve, args=(config,))
        process.start()
        try:
            with _client(config) as client:
                await_ready(client, TIMEOUT_S)
                for number in range(1, JOBS + 1):
                    assert isinstance(client.ask(hybrid_job(number, "qx")), Admitted)
            yield config
        finally:
            process.terminate()
            process.join(TIMEOUT_S)


def _serve(config: DispatcherConfig) -> None:
    logging.disable()
    serve(config, [BackendConfig(name="qx")], identity=SameUser())


def _client(config: DispatcherConfig) -> DispatcherClient:
    return DispatcherClient(config.socket, identity=SameUser(), timeout_s=TIMEOUT_S)


def _nobody(_: str) -> None:
    """Ignore why a session waits."""
