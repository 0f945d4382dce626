"""A store that takes nothing: what is there is kept, nobody is told what isn't stored, and it goes on by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store import Reader
from qslurm.c2.store.store import Store
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.messages import (
    Admitted,
    Attach,
    Attached,
    Await,
    Execute,
    Executed,
    GetStatus,
    Message,
    NotAdmitted,
    Pending,
    Refused,
    Status,
)
from tests.unit.c2.dispatcher.running import BELL, Running, circuit_job, hybrid_job, in_a_thread
from tests.unit.waiting import until

UID = os.getuid()
HYBRID = "def execute(qi): pass\ndef finalize(m): return {}\n"


@dataclass
class Here:
    """A dispatcher in a thread, whose store the test can hold full."""

    store: Store
    client: DispatcherClient


@pytest.fixture
def here(home: Path) -> Iterator[Here]:
    registry = TaskRegistry([BackendConfig(name="qx")], Store(str(home / "store.db")))
    with in_a_thread(home, registry, trusted=frozenset({UID})) as client:
        until(lambda: status(client).backends[0].state == "idle")
        yield Here(registry.store, client)


def status(client: DispatcherClient) -> Status:
    answer = client.ask(GetStatus(jobs=True))
    assert isinstance(answer, Status)
    return answer


def start_hybrid(client: DispatcherClient) -> Attached:
    client.ask(hybrid_job(1, HYBRID, uid=UID))
    attached = client.ask(Attach(job_id=1, restart=0, client="step"))
    assert isinstance(attached, Attached)
    return attached


def raw_question(attached: Attached) -> Execute:
    """A circuit whose result needs some space."""
    return Execute(task=attached.task, seq=0, circuit=BELL, shots=3000, raw_data=True)


def ask_again(client: DispatcherClient, attached: Attached, question: Message) -> Message:
    """As a step asks, until there is more to say than why it waits."""
    answer = client.exchange(question, secret=attached.secret)
    while isinstance(answer, Pending) or (isinstance(answer, Refused) and answer.kind == "unknown_execution"):
        again = question if isinstance(answer, Refused) else Await(task=attached.task, seq=0)
        answer = client.exchange(again, secret=attached.secret)
    return answer


def test_nobody_is_told_what_is_not_stored_and_all_goes_on_when_there_is_space(
    here: Here, home: Path
) -> None:
    client = here.client
    attached = start_hybrid(client)
    here.store.limit_pages(here.store.limit_pages(1_000_000))
    answer = client.exchange(raw_question(attached), secret=attached.secret)
    assert isinstance(answer, Pending)
    until(lambda: not status(client).ready)  # the answer says that it waits, not yet for what
    assert "full" in status(client).reason
    turned = client.ask(circuit_job(2, uid=UID))
    assert isinstance(turned, NotAdmitted)
    assert turned.retry
    assert "full" in turned.reason

    here.store.limit_pages(1_000_000)
    outcome = ask_again(client, attached, raw_question(attached))
    assert isinstance(outcome, Executed)
    assert outcome.raw_data is not None
    assert len(outcome.raw_data) == 3000
    assert status(client).ready
    task = Reader(home / "store.db").task("a", 1)
    assert task is not None
    assert task.executions == 1
    assert client.ask(circuit_job(2, uid=UID)) == Admitted()


@pytest.mark.slurm
def test_a_disk_that_is_really_full(home: Path) -> None:
    disk = home / "disk"
    disk.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(disk)], check=True)
    try:
        with Running(disk, log=home / "log") as running, running.ready().client() as client:
            attached = start_hybrid(client)
            ballast = disk / "ballast"
            fill(ballast)
            answer = client.exchange(raw_question(attached), secret=attached.secret)
            assert isinstance(answer, Pending)
            until(lambda: not status(client).ready)
            turned = client.ask(circuit_job(2, uid=UID))
            assert isinstance(turned, NotAdmitted)
            assert turned.retry
            ballast.unlink()
            outcome = ask_again(client, attached, raw_question(attached))
            assert isinstance(outcome, Executed)
            assert status(client).ready
            task = running.reader().task("a", 1)
            assert task is not None
            assert task.executions == 1
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(path: Path) -> None:
    """Take all the space there is."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return
