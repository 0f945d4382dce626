"""What is counted: everything once, when it is over."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.dispatcher.pool import assignment
from qslurm.c2.dispatcher.store_writer import StoreWriter
from qslurm.c2.dispatcher.tasks.task import CircuitRequest, Task
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store.store import Store
from qslurm.protocol.messages import Admit, Executed, OrderResult
from qslurm.protocol.metrics import FAMILIES, Counters


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def scene(store: Store | None = None) -> tuple[TaskRegistry, Clock]:
    clock = Clock()
    return TaskRegistry([BackendConfig(name="qx")], store or Store(), clock=clock, timer=clock), clock


def hybrid(registry: TaskRegistry, circuits: int = 1) -> Task:
    job = Admit(job_id=1, restart=0, user="u", uid=1, account="a", center="a", backend="qx", kind="hybrid")
    task = registry.begin(job)
    registry.start(task)
    for seq in range(circuits):
        registry.queue(task, seq, CircuitRequest("version 3.0", 10))
    return task


def counted(registry: TaskRegistry, name: str) -> dict[tuple[str, ...], float]:
    return {one.labels: one.value for one in registry.counters.values()[name]}


def spread(registry: TaskRegistry, name: str) -> tuple[int, float]:
    found = registry.counters.spreads()[name]
    return sum(sum(one.counts) for one in found), sum(one.total for one in found)


def outcome(seq: int = 0, **more: Any) -> Executed:
    return Executed(seq=seq, shots_requested=10, shots_done=10, counts={"0": 10}, seconds=0.5, **more)


def test_an_execution_that_is_done_again_counts_once_and_waited_once() -> None:
    registry, clock = scene()
    hybrid(registry)
    clock.now += 3
    assert assignment.assign(registry, "qx", 7) is not None
    clock.now += 20
    assignment.lost(registry, 7, "It died")
    clock.now += 5
    run = assignment.assign(registry, "qx", 8)
    assert run is not None
    assignment.take_result(registry, OrderResult(runtime=8, order=run.order, shots_done=10, seconds=0.5))
    assignment.take_result(registry, OrderResult(runtime=8, order=run.order, shots_done=10, seconds=0.5))
    assert counted(registry, "executions") == {("qx", "a", "done", "dispatcher"): 1}
    assert counted(registry, "executions_again") == {("qx",): 1}
    assert counted(registry, "qpu_seconds") == {("qx", "a"): 0.5}
    assert counted(registry, "shots") == {("qx", "a"): 10}
    assert spread(registry, "queue_wait_seconds") == (1, 3.0)


def test_a_step_is_over_when_its_outcome_is_stored() -> None:
    registry, clock = scene()
    hybrid(registry)
    run = assignment.assign(registry, "qx", 7)
    assert run is not None
    clock.now += 2
    assignment.take_result(registry, OrderResult(runtime=7, order=run.order, shots_done=10, seconds=0.5))
    assert spread(registry, "step_seconds") == (0, 0)
    clock.now += 1
    registry.counters.replies_sent(clock.now)
    registry.counters.replies_sent(clock.now + 100)
    assert spread(registry, "step_seconds") == (1, 3.0)


def test_what_went_by_lane_counts_when_it_is_taken_over_and_not_again() -> None:
    registry, _ = scene()
    task = hybrid(registry, circuits=0)
    assert registry.record(task.id, "sha", outcome())
    assert not registry.record(task.id, "sha", outcome())
    assert registry.record(task.id, "sha", outcome(1, error="It does not compile.", kind="invalid_circuit"))
    assert counted(registry, "executions") == {
        ("qx", "a", "done", "lane"): 1,
        ("qx", "a", "failed", "lane"): 1,
    }


def test_a_dispatcher_that_starts_again_begins_at_zero_and_counts_nothing_it_remembers() -> None:
    store = Store()
    registry, _ = scene(store)
    task = hybrid(registry, circuits=0)
    registry.record(task.id, "sha", outcome())
    assert store.commit(registry.changes) == ""
    again, _ = scene(store)
    assert counted(again, "executions") == {}
    assert not again.record(task.id, "sha", outcome())
    assert counted(again, "executions") == {}


def test_an_end_withdraws_what_waits_and_commits_are_timed() -> None:
    from qslurm.c2.store.task_states import TaskState

    registry, clock = scene()
    task = hybrid(registry, circuits=3)
    registry.end(task, TaskState.CANCELLED)
    assert StoreWriter(registry).commit(clock.now)
    assert counted(registry, "executions") == {("qx", "a", "withdrawn", "dispatcher"): 3}
    assert counted(registry, "jobs_ended") == {("qx", "a", "hybrid", "cancelled"): 1}
    assert spread(registry, "store_commit_seconds") == (1, 0.0)


def test_a_target_that_says_less_than_nothing_takes_nothing_back() -> None:
    registry, _ = scene()
    task = hybrid(registry, circuits=0)
    registry.record(task.id, "sha", Executed(seq=0, shots_requested=1, shots_done=1, counts={}, seconds=-5.0))
    assert counted(registry, "qpu_seconds") == {("qx", "a"): 0.0}


@given(st.lists(st.floats(0, 1e6)))
def test_each_time_is_in_one_bucket_the_right_one(seconds: list[float]) -> None:
    counters = Counters()
    for one in seconds:
        counters.observe("queue_wait_seconds", one, "qx")
    bounds = FAMILIES["queue_wait_seconds"].bounds
    for found in counters.spreads()["queue_wait_seconds"]:
        assert sum(found.counts) == len(seconds)
        for number, bound in enumerate(bounds):
            assert sum(found.counts[: number + 1]) == sum(one <= bound for one in seconds)


def test_bounds_rise_and_names_are_what_prometheus_wants() -> None:
    for name, family in FAMILIES.items():
        assert list(family.bounds) == sorted(set(family.bounds))
        assert (family.kind == "histogram") == bool(family.bounds)
        assert not name.endswith("_total")
        assert "le" not in family.labels
