"""The clock is put forward and back by hours; what takes its time goes by seconds that only go on."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, closing
from pathlib import Path

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.dispatcher import reservation_requests
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store import Reader
from qslurm.c2.store.store import Store
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.messages import Release, Reserve, Reserved
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from tests.unit.c2.dispatcher.running import BELL, circuit_job, hybrid_job, in_a_thread
from tests.unit.waiting import until

UID = os.getuid()
SOURCE = "def execute(qi): pass\ndef finalize(m): return {}\n"
HOURS = 3600.0


class Clock:
    """Shows the time, so many seconds ahead."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def dispatcher(home: Path, clock: Clock) -> AbstractContextManager[DispatcherClient]:
    """A dispatcher that knows the time from this clock."""
    backend = BackendConfig(name="qx", policy="fair", session_idle_s=5.0)
    registry = TaskRegistry([backend], Store(str(home / "store.db")), clock=clock)
    return in_a_thread(home, registry, trusted=frozenset({UID}))


def test_whatever_the_clock_shows_jobs_run_and_end(home: Path) -> None:
    clock, reader = Clock(), Reader(home / "store.db")
    with dispatcher(home, clock) as client:
        until(
            lambda: (
                client.ask(hybrid_job(1, SOURCE, uid=UID, qpu_seconds=3600)).__class__.__name__ == "Admitted"
            )
        )
        client.ask(
            Reserve(backend="qx", begins=clock() + 100 * HOURS, ends=clock() + 101 * HOURS, center="b")
        )
        with closing(DispatcherSession(client, 1, 0, say=lambda _: None)) as step:
            for hours in (0, 9, -9, 0, -9, 9):
                clock.ahead = hours * HOURS
                assert step.execute(BELL, 10, False).shots_done == 10
                client.ask(circuit_job(100 + step.executions, uid=UID))
            step.conclude(final_result="{}")
        until(lambda: all(one.finished_at for one in reader.tasks("a")))
    tasks = reader.tasks("a")
    assert [(one.state, one.reason) for one in tasks] == [("finished", "")] * 7
    for one in tasks:
        assert one.started_at is not None
        assert one.finished_at is not None
        assert one.admitted_at <= one.started_at <= one.finished_at


def test_a_store_whose_times_lie_in_the_future_is_a_store_like_any_other(home: Path) -> None:
    clock, reader = Clock(), Reader(home / "store.db")
    clock.ahead = 1000 * HOURS
    with dispatcher(home, clock) as client:
        until(lambda: client.ask(circuit_job(1, uid=UID)).__class__.__name__ == "Admitted")
        client.ask(hybrid_job(2, SOURCE, uid=UID))
        with closing(DispatcherSession(client, 2, 0, say=lambda _: None, token="step")) as step:
            step.execute(BELL, 10, False)
    clock.ahead = 0.0
    with (
        dispatcher(home, clock) as client,
        closing(DispatcherSession(client, 2, 0, say=lambda _: None, token="step")) as step,
    ):
        assert step.execute(BELL, 10, False).shots_done == 10
        step.conclude(final_result="{}")
    found = reader.task("a", 2)
    assert found is not None
    assert (found.state, found.executions) == ("finished", 1)


def test_a_clock_that_was_wrong_for_a_moment_costs_no_reservation() -> None:
    clock = Clock()
    registry = TaskRegistry([BackendConfig(name="qx")], Store(), clock=clock)
    made = reservation_requests.handle(
        registry, Reserve(backend="qx", begins=clock(), ends=clock() + 2 * HOURS, center="b")
    )
    assert isinstance(made, Reserved)
    clock.ahead = 10 * HOURS
    assert reservation_requests.listed(registry) == []
    reservation_requests.handle(registry, Release(reservation=99))
    clock.ahead = 0.0
    assert [one.id for one in reservation_requests.listed(registry)] == [made.reservation]
    clock.ahead = 48 * HOURS
    reservation_requests.handle(registry, Release(reservation=99))
    clock.ahead = 0.0
    assert reservation_requests.listed(registry) == []
