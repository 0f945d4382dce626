"""Operators reserve backends: who may, what is refused, and what is kept over a restart."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.dispatcher import reservation_requests
from qslurm.c2.dispatcher.pool import assignment
from qslurm.c2.dispatcher.tasks import hook_requests, step_sessions
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store.store import Store
from qslurm.errors import InvalidInputError, PermissionDeniedError
from qslurm.protocol.messages import (
    Admit,
    Attach,
    Attached,
    Done,
    Execute,
    Finish,
    Message,
    OrderResult,
    Pending,
    Refused,
    Release,
    Reserve,
    Reserved,
)
from tests.unit.c2.dispatcher.running import Running, circuit_job, hybrid_job, in_a_thread

UID = 7


class Scene:
    """A task registry whose clock is set by hand."""

    def __init__(self, **settings: object) -> None:
        self.store = Store()
        self.at = 1000.0
        self.settings = settings
        self.restart()

    def restart(self) -> None:
        backends = [BackendConfig(name=name, **self.settings) for name in ("qx", "spin2")]  # type: ignore[arg-type]
        self.registry = TaskRegistry(backends, self.store, clock=lambda: self.at, timer=lambda: self.at)

    def order(self, message: Reserve | Release) -> Message:
        answer = reservation_requests.handle(self.registry, message)
        self.commit()
        return answer

    def commit(self) -> None:
        assert self.store.commit(self.registry.changes) == ""
        self.registry.stored()

    def reserve(
        self, begins: float, ends: float, *, center: str = "", job_id: int = 0, backend: str = "qx"
    ) -> int:
        message = Reserve(backend=backend, begins=begins, ends=ends, center=center, job_id=job_id)
        answer = self.order(message)
        assert isinstance(answer, Reserved), answer
        return answer.reservation

    def numbers(self) -> list[int]:
        return [one.id for one in reservation_requests.listed(self.registry)]

    def admit(self, job: Admit) -> None:
        hook_requests.admit(self.registry, job, "")
        self.commit()

    def starts(self) -> int:
        """The task that the next execution at qx belongs to; 0 for none."""
        run = assignment.assign(self.registry, "qx", 1)
        return 0 if run is None else self.registry.running[run.order][1].task


def test_reservations_are_numbered_listed_and_released() -> None:
    scene = Scene()
    later = scene.reserve(2000, 3000, center="a")
    sooner = scene.reserve(1500, 2000, center="b")
    assert scene.numbers() == [sooner, later]
    assert scene.order(Release(reservation=later)) == Done()
    assert scene.numbers() == [sooner]
    assert isinstance(scene.order(Release(reservation=later)), Refused)
    assert scene.reserve(5000, 6000, center="a") == 3


def test_what_is_no_window_is_refused_with_a_reason() -> None:
    scene = Scene()
    scene.reserve(2000, 3000, center="a")
    for message, word in (
        (Reserve(backend="nope", begins=1, ends=2, center="a"), "nope"),
        (Reserve(backend="qx", begins=4000, ends=5000), "not both"),
        (Reserve(backend="qx", begins=4000, ends=5000, center="a", job_id=3), "not both"),
        (Reserve(backend="qx", begins=5000, ends=4000, center="a"), "after"),
        (Reserve(backend="qx", begins=10, ends=20, center="a"), "after it begins"),
        (Reserve(backend="qx", begins=float("nan"), ends=20, center="a"), "after"),
        (Reserve(backend="qx", begins=2000, ends=float("inf"), center="a"), "year"),
        (Reserve(backend="qx", begins=2999, ends=4000, center="b"), "reservation 1"),
    ):
        answer = scene.order(message)
        assert isinstance(answer, Refused)
        assert word in answer.reason
    scene.reserve(2000, 3000, center="b", backend="spin2")


def test_a_center_that_was_never_here_is_remarked_on() -> None:
    scene = Scene()
    answer = scene.order(Reserve(backend="qx", begins=1000, ends=2000, center="snelius"))
    assert isinstance(answer, Reserved)
    assert "snelius" in answer.note


def test_reservations_outlive_the_dispatcher_and_end_by_themselves() -> None:
    scene = Scene()
    number = scene.reserve(1000, 2000, center="b")
    scene.restart()
    assert scene.numbers() == [number]
    scene.admit(circuit_job(1, uid=UID))
    assert scene.starts() == 0
    assert scene.registry.next_event() == 2000
    scene.at = 2000.0
    assert scene.numbers() == []
    assert scene.starts() == 1


def test_a_jobs_reservation_ends_with_the_job() -> None:
    scene = Scene()
    scene.reserve(1000, 9000, job_id=5)
    scene.admit(circuit_job(4, uid=UID))
    scene.admit(circuit_job(5, uid=UID))
    assert scene.starts() == 2
    assert scene.starts() == 0
    assignment.take_result(scene.registry, OrderResult(runtime=1, order=1, counts={"0": 1}, shots_done=1))
    scene.commit()
    assert scene.numbers() == []
    assert scene.starts() == 1
    scene.restart()
    assert scene.numbers() == []


def test_a_requeued_job_keeps_its_reservation() -> None:
    scene = Scene()
    number = scene.reserve(1000, 9000, job_id=5)
    scene.admit(circuit_job(5, uid=UID))
    hook_requests.finish(scene.registry, Finish(job_id=5, restart=0, state="REQUEUED"))
    assert scene.numbers() == [number]


def test_a_step_that_is_kept_out_is_told_until_when() -> None:
    scene = Scene()
    scene.reserve(1000, 9000, center="b")
    scene.admit(hybrid_job(1, "x", uid=UID))
    attached = step_sessions.attach(scene.registry, Attach(job_id=1, restart=0, client="s"), UID)
    assert isinstance(attached, Attached)
    step_sessions.execute(scene.registry, Execute(task=attached.task, seq=0, circuit="x", shots=1))
    answer = step_sessions.pending(scene.registry, attached.task, 0)
    assert isinstance(answer, Pending)
    assert "reserved for center b until" in answer.reason
    assert answer.position == 1


def test_what_centers_have_used_is_remembered_over_a_restart() -> None:
    scene = Scene(policy="fair", half_life_s=100.0)
    scene.admit(circuit_job(1, uid=UID))
    assert scene.starts() == 1
    assignment.take_result(
        scene.registry, OrderResult(runtime=1, order=1, counts={"0": 1}, shots_done=1, seconds=8.0)
    )
    scene.commit()
    scene.at += 200.0
    scene.restart()
    assert scene.registry.queues["qx"].shares.used("a", scene.at) == pytest.approx(2.0)
    assert scene.registry.queues["spin2"].shares.used("a", scene.at) == 0.0


def test_a_reservation_is_asked_for_over_the_socket(shared: Running) -> None:
    begins = time.time() + 3600
    message = Reserve(backend="qx", begins=begins, ends=begins + 60, center="a")
    answer = shared.ask(message)
    assert isinstance(answer, Reserved)
    assert [one.id for one in shared.status().reservations] == [answer.reservation]
    with pytest.raises(InvalidInputError, match=f"reservation {answer.reservation}"):
        shared.ask(message)
    assert shared.ask(Release(reservation=answer.reservation)) == Done()


def test_only_operators_reserve(home: Path) -> None:
    with in_a_thread(home, TaskRegistry([BackendConfig(name="qx")], Store()), trusted=frozenset()) as client:
        for message in (Reserve(backend="qx", begins=0, ends=9, center="a"), Release(reservation=1)):
            with pytest.raises(PermissionDeniedError):
                client.ask(message)
