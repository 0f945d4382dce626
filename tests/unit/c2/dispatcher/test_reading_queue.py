"""What is read before a job is admitted holds nobody up but its own center."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest

from qslurm.c2.dispatcher.reading_queue import AT_A_TIME, AT_A_TIME_PER_CENTER, ReadingQueue
from qslurm.c2.dispatcher.worker_threads import WorkerThreads
from qslurm.payload.envelope import Envelope
from qslurm.protocol.messages import Admit
from tests.unit.c2.dispatcher.running import circuit_job


class Scene:
    """Readings whose work goes on when it is let go, or fails; `answered` are jobs in order."""

    def __init__(self) -> None:
        self.threads = WorkerThreads()
        self.readings = ReadingQueue(self.threads, self.read)
        self.began: list[int] = []
        self.go: dict[int, threading.Event] = {}
        self.bad: set[int] = set()
        self.answered: list[int] = []

    def read(self, envelope: Envelope, qubits: int) -> str:
        job_id = int(envelope.source)
        self.began.append(job_id)
        assert self.go[job_id].wait(60)
        if job_id in self.bad:
            raise OSError("no process can be started")
        return ""

    def ask(self, job_id: int, center: str) -> None:
        job: Admit = msgspec.structs.replace(circuit_job(job_id, str(job_id), uid=1), center=center)
        self.go.setdefault(job_id, threading.Event())
        assert job.envelope is not None
        self.readings.submit(job, job.envelope, 2, lambda _: self.answered.append(job_id))

    def until(self, seen: Callable[[], bool]) -> None:
        while not seen():
            assert select.select([self.threads.fileno], [], [], 60)[0]
            self.threads.run_callbacks()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    for event in scene.go.values():
        event.set()
    scene.threads.close()


def test_a_center_with_much_to_read_keeps_no_other_waiting(scene: Scene) -> None:
    for job_id in range(8):
        scene.ask(job_id, "a")
    scene.ask(100, "b")
    scene.go[100].set()
    scene.until(lambda: 100 in scene.answered)
    assert scene.answered == [100]
    assert sorted(scene.began) == [*range(AT_A_TIME_PER_CENTER), 100]


def test_the_next_is_of_the_center_that_has_the_fewest_under_way(scene: Scene) -> None:
    for job_id, center in enumerate("aaabbbcc"):
        scene.ask(job_id, center)
    scene.go[0].set()
    scene.until(lambda: 0 in scene.answered)
    scene.go[6].set()
    scene.until(lambda: 6 in scene.answered)  # c has come to its turn
    for event in scene.go.values():
        event.set()
    scene.until(lambda: len(scene.answered) == 8)
    assert len(scene.began) == 8 > AT_A_TIME


def test_asked_twice_it_is_read_once_and_both_are_answered(scene: Scene) -> None:
    scene.ask(1, "a")
    scene.ask(1, "a")
    scene.go[1].set()
    scene.until(lambda: scene.answered == [1, 1])
    assert scene.began == [1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_can_not_be_read_gives_its_place_back_and_may_be_asked_again(scene: Scene) -> None:
    scene.bad = set(range(5))
    for job_id in range(5):
        scene.ask(job_id, "a")
        scene.go[job_id].set()
    scene.ask(5, "a")
    scene.go[5].set()
    scene.until(lambda: scene.answered == [5] and not scene.readings._readings)
    scene.bad.clear()
    scene.ask(1, "a")
    scene.until(lambda: scene.answered == [5, 1])
