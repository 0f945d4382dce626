"""kill -9 of the dispatcher, whose process has the store, and of quantum runtimes, at moments nobody has chosen.

Many small hybrid jobs run meanwhile. Each ends once, and what a job was told is what the store has: counts of
many shots of a random circuit, so that a circuit which was run once more would show.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.errors import UnreachableError
from qslurm.protocol.messages import Admit, Admitted, Finish, Message
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from tests.unit.c2.dispatcher.running import Running, hybrid_job
from tests.unit.waiting import until

pytestmark = pytest.mark.slurm  # it needs none, but takes as long as if it did

UID = os.getuid()
SOURCE = "def execute(qi): pass\ndef finalize(m): return {}\n"
RANDOM = "version 3.0; qubit[6] q; bit[6] b; H q; b = measure q"
CLIENTS, CIRCUITS = 4, 20
DISPATCHER_KILLS, RUNTIME_KILLS = 3, 12
PATIENCE_S = 120.0


@dataclass
class Client:
    """One after the other, it is the prolog, the step and the epilog of its jobs, until enough has been killed."""

    running: Running
    number: int
    told: dict[tuple[int, int], dict[str, int]] = field(default_factory=dict)

    def work(self, enough: threading.Event) -> None:
        job_ids = itertools.count(self.number * 10_000)
        while not enough.is_set():
            self.one_job(next(job_ids))

    def one_job(self, job_id: int) -> None:
        job: Admit = hybrid_job(job_id, SOURCE, uid=UID, key=f"key-{job_id}")
        until(lambda: isinstance(self.ask(job), Admitted), PATIENCE_S)
        with (
            self.running.client() as client,
            closing(DispatcherSession(client, job_id, 0, say=lambda _: None, lanes=True)) as step,
        ):
            for seq in range(CIRCUITS):
                self.told[job_id, seq] = step.execute(RANDOM, 200, False).counts
            step.conclude(final_result=f'{{"job": {job_id}}}')
        self.ask(Finish(job_id=job_id, restart=0, state="COMPLETED"))

    def ask(self, message: Message) -> Message:
        while True:
            try:
                return self.running.ask(message)
            except UnreachableError:
                time.sleep(0.05)


class Killer:
    """Kills when every client has got something since the last time, so that nothing loses its runtime twice."""

    def __init__(self, running: Running, clients: list[Client], seed: int) -> None:
        self.running, self.clients, self.random = running, clients, random.Random(seed)
        self.kills = [self.dispatcher] * DISPATCHER_KILLS + [self.runtime] * RUNTIME_KILLS
        self.random.shuffle(self.kills)

    def work(self, enough: threading.Event) -> None:
        try:
            for kill in self.kills:
                before = [len(client.told) for client in self.clients]
                until(lambda before=before: self.all_go_on(before), PATIENCE_S)
                time.sleep(self.random.uniform(0, 0.02))
                kill()
        finally:
            enough.set()

    def all_go_on(self, before: list[int]) -> bool:
        return all(len(client.told) > count for client, count in zip(self.clients, before, strict=True))

    def dispatcher(self) -> None:
        self.running.kill()
        self.running.start()

    def runtime(self) -> None:
        workers = self.running.workers()
        if workers:
            os.kill(self.random.choice(workers), signal.SIGKILL)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_job_ends_once_and_what_it_was_told_is_stored(home: Path, seed: int) -> None:
    backend = BackendConfig(name="qx", workers=2)
    with Running(home, backend=backend) as running:
        running.ready()
        clients = [Client(running, number) for number in range(1, CLIENTS + 1)]
        killer = Killer(running, clients, seed)
        with ThreadPoolExecutor(CLIENTS + 1) as threads:
            enough = threading.Event()
            works: list[Callable[[threading.Event], None]] = [client.work for client in clients]
            futures = [threads.submit(work, enough) for work in [*works, killer.work]]
        for future in futures:
            future.result()
        for client in clients:
            check(running, client)


def check(running: Running, client: Client) -> None:
    reader = running.reader()
    for job_id in {job_id for job_id, _ in client.told}:
        task = reader.task("a", job_id)
        assert task is not None
        assert (task.state, task.reason, running.final_result(task)) == ("finished", "", {"job": job_id})
        executions = reader.executions(task)
        assert [(one.seq, one.state) for one in executions] == [(seq, "done") for seq in range(CIRCUITS)]
        assert all(msgspec.json.decode(one.counts) == client.told[job_id, one.seq] for one in executions)
        with closing(sqlite3.connect(running.config.store)) as store:
            ends = "SELECT count(*) FROM journal WHERE task = ? AND seq IS NULL AND state = 'finished'"
            assert store.execute(ends, (task.id,)).fetchone() == (1,)
            starts = "SELECT count(*) FROM tasks WHERE job_id = ?"
            assert store.execute(starts, (job_id,)).fetchone() == (1,)
