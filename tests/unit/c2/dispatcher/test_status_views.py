"""What GetStatus shows, and to whom: a task registry, a pool and leases without any process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.dispatcher import status_views as views
from qslurm.c2.dispatcher.backend_status import Backends
from qslurm.c2.dispatcher.reservation_requests import handle
from qslurm.c2.dispatcher.status_views import StatusViews, Viewer, viewer_of
from qslurm.c2.dispatcher.tasks.lane_tasks import RegisteredTasks
from qslurm.c2.dispatcher.tasks.task import CircuitRequest, Task
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.scheduling.policy import POLICIES
from qslurm.c2.scheduling.queue_positions import first, position
from qslurm.c2.store.store import Store
from qslurm.errors import PermissionDeniedError
from qslurm.protocol.messages import Admit, Executed, GetStatus, Reserve, Status
from qslurm.runtimes.lanes.leases import Leases
from qslurm.runtimes.quantum.pool import RuntimePool
from tests.unit.c2.scheduling.test_backend_queue import Clerk

CENTERS = ["a", "b", "c"]
ALL = Viewer("all", 0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scene:
    registry: TaskRegistry
    views: StatusViews
    clock: Clock

    def job(self, job_id: int, center: str = "a", *, uid: int = 1, circuits: int = 0) -> Task:
        task = self.registry.begin(
            Admit(
                job_id=job_id, restart=0, user=f"center_{center}", uid=uid, account=center, center=center,
                backend="qx", kind="hybrid",
            )
        )  # fmt: skip
        self.registry.start(task)
        for seq in range(circuits):
            self.registry.queue(task, seq, CircuitRequest("version 3.0", 100))
        return task

    def run_next(self) -> None:
        execution = self.registry.next_execution("qx")
        assert execution is not None
        self.registry.move(execution, views.ExecutionState.RUNNING)
        self.clock.now += 2.0
        done = Executed(seq=execution.seq, shots_requested=100, shots_done=100, counts={}, seconds=2.0)
        self.registry.end_execution(execution, done)

    def seen(self, viewer: Viewer = ALL, *, queue: int = 100) -> Status:
        return self.views.status(GetStatus(jobs=True, queue=queue), viewer)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[object]:
    with zmq.Context() as context:
        pools = []

        def scene(**setup: object) -> Scene:
            clock, store = Clock(), Store()
            backend = BackendConfig(name="qx", **setup)  # type: ignore[arg-type]
            registry = TaskRegistry([backend], store, clock=clock, timer=clock)
            pool = RuntimePool(context, [backend], tmp_path, limit_s=60.0)
            pools.append(pool)
            leases = Leases(RegisteredTasks(registry), pool, lambda *_: False)
            return Scene(
                registry, StatusViews(registry, pool, Backends(registry, leases.in_use), leases), clock
            )

        yield scene
        for pool in pools:
            pool.close(lambda: None)


@pytest.fixture
def scene(make) -> Scene:
    return make()


def test_what_waits_is_listed_with_its_place_and_reason(scene: Scene) -> None:
    scene.job(1, circuits=1)
    scene.job(2, "b", uid=2, circuits=2)
    scene.clock.now += 5
    seen = scene.seen()
    assert [(w.job_id, w.seq, w.position, w.shots) for w in seen.queue] == [
        (1, 0, 1, 100), (2, 0, 2, 100), (2, 1, 3, 100),
    ]  # fmt: skip
    assert {w.since for w in seen.queue} == {1000.0}
    # no quantum runtime has started here, and that is what keeps everybody waiting
    assert all(w.reason.startswith("Backend qx is offline") for w in seen.queue)
    assert [(t.job_id, t.queued, t.executing, t.executions) for t in seen.tasks] == [
        (1, 1, 0, 0),
        (2, 2, 0, 0),
    ]


def test_a_center_sees_its_own_jobs_and_everybodys_totals(scene: Scene) -> None:
    scene.job(1, "a", uid=1, circuits=2)
    scene.job(2, "b", uid=2, circuits=3)
    seen = scene.seen(Viewer("own", 2), queue=2)
    assert ([t.job_id for t in seen.tasks], seen.open_jobs) == ([2], 2)
    assert [(w.job_id, w.position) for w in seen.queue] == [(2, 3), (2, 4)]
    assert seen.queue_left == {"qx": 1}
    assert seen.backends[0].queued == 5


def test_a_stranger_sees_backends_and_totals_and_is_told_why(scene: Scene) -> None:
    scene.job(1, circuits=2)
    handle(scene.registry, Reserve(backend="qx", begins=0, ends=2000, job_id=77, reason="the merger"))
    seen = scene.seen(viewer_of(PermissionDeniedError("No credential."), frozenset({0})))
    assert (seen.scope, seen.scope_reason) == ("none", "No credential.")
    assert (seen.tasks, seen.queue, seen.holds, seen.queue_left) == ([], [], [], {"qx": 0})
    assert (seen.backends[0].queued, seen.open_jobs) == (2, 1)
    (window,) = seen.reservations
    assert (window.job_id, window.reason, window.holder) == (0, "", "a job")


def test_operators_see_all_and_others_their_own() -> None:
    assert viewer_of(7, frozenset({0, 7})).scope == "all"
    assert viewer_of(8, frozenset({0, 7})) == Viewer("own", 8)


def test_a_session_is_shown_with_who_has_it_and_until_when(make) -> None:
    scene = make(session_idle_s=10.0, session_max_s=30.0)
    scene.job(1, "a", uid=1, circuits=1)
    scene.run_next()
    scene.clock.now += 3.0
    (hold,) = scene.seen().holds
    assert (hold.job_id, hold.center, hold.by, hold.since) == (1, "a", "session", 1000.0)
    assert (hold.idle_s, hold.until) == (3.0, 1012.0)
    scene.job(2, "b", uid=2, circuits=1)
    assert scene.seen(Viewer("own", 2)).holds == []
    assert scene.seen(Viewer("own", 2)).backends[0].sessions == 1


def test_a_long_queue_is_listed_in_part_and_counted_in_whole(make) -> None:
    scene = make(policy="fair")
    for number in range(700):
        scene.job(number + 1, CENTERS[number % 3], uid=number % 3, circuits=16)
    seen = scene.seen(queue=10**9)
    assert len(seen.queue) == views.LONGEST_QUEUE
    assert seen.queue_left == {"qx": 700 * 16 - views.LONGEST_QUEUE}
    assert [w.position for w in seen.queue] == list(range(1, views.LONGEST_QUEUE + 1))
    assert seen.queue[0].center != seen.queue[1].center
    own = scene.seen(Viewer("own", 1), queue=10**9)
    assert (len(own.queue), {w.center for w in own.queue}) == (views.LONGEST_OWN, {"b"})
    assert own.queue_left == {"qx": 233 * 16 - views.LONGEST_OWN}


@settings(max_examples=60)
@given(
    policy=st.sampled_from(sorted(POLICIES)),
    asked=st.lists(st.tuples(st.integers(1, 6), st.floats(0, 3)), min_size=1, max_size=30),
    served=st.lists(st.floats(0, 3), max_size=8),
    session_idle_s=st.sampled_from([0.0, 5.0]),
    reserved=st.sampled_from(["", "a", "nobody"]),
    most=st.integers(0, 12),
)
def test_the_first_of_a_queue_are_those_with_the_first_places(
    policy: str,
    asked: list[tuple[int, float]],
    served: list[float],
    session_idle_s: float,
    reserved: str,
    most: int,
) -> None:
    clerk = Clerk(policy, session_idle_s=session_idle_s)
    for job, pause in asked:
        clerk.now += pause
        clerk.ask(job, CENTERS[job % 3])
    for seconds in served:
        clerk.serve(seconds)
    if reserved:
        clerk.reserve(0.0, 1e9, center=reserved)
    queue = clerk.queue
    places = sorted(position(queue, one, clerk.now, clerk.now) for one in queue.waiting_order.all())
    chosen = first(queue, most, clerk.now, clerk.now)
    assert len({one.number for one in chosen}) == len(chosen) >= min(most, len(queue))
    assert sorted(position(queue, one, clerk.now, clerk.now) for one in chosen)[:most] == places[:most]
