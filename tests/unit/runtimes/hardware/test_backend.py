"""A backend of hardware behind a real dispatcher: what its jobs see, and what is left when processes are killed."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.store.task_records import TaskRecord
from qslurm.errors import UnreachableError
from qslurm.protocol.messages import Admitted, Attach, Attached, BackendStatus, Finish, NotAdmitted
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from tests.unit.c2.dispatcher.running import BELL, Running, circuit_job, hybrid_job, is_gone
from tests.unit.runtimes.hardware.qpu_simulator import Qpu
from tests.unit.waiting import until

UID = os.getuid()


@pytest.fixture
def qpu() -> Iterator[Qpu]:
    """Each story's own, since guards of killed processes speak to it when they like."""
    qpu = Qpu()
    yield qpu
    qpu.kill()


@pytest.fixture
def options() -> dict[str, object]:
    """What a story sets otherwise than the simulator's options say."""
    return {}


@pytest.fixture
def running(qpu: Qpu, home: Path, options: dict[str, object]) -> Iterator[Running]:
    backend = BackendConfig(name="qx", runtime="hardware", qubits=5, options=qpu.options | options)
    with Running(home, backend=backend) as running:
        until(lambda: _backend(running).state == "idle")
        yield running
        running.stop()
        until(lambda: not qpu.do()["session"])  # the guards have done their work


def _backend(running: Running) -> BackendStatus:
    running.ready()
    return running.status().backends[0]


def _ended(running: Running, job_id: int) -> TaskRecord:
    def found() -> TaskRecord | None:
        record = running.reader().task("a", job_id)
        return record if record is not None and record.state in {"finished", "failed"} else None

    record = until(found)
    assert record is not None
    return record


def test_jobs_run_on_it_and_are_told_what_it_is(running: Running, qpu: Qpu) -> None:
    assert running.ask(circuit_job(1, uid=UID)) == Admitted()
    assert _ended(running, 1).state == "finished"
    running.ask(hybrid_job(2, "def execute(qi): pass\ndef finalize(results): return {}", uid=UID))
    attached = running.ask(Attach(job_id=2, restart=0, client="step"))
    assert isinstance(attached, Attached)
    assert attached.backend_type is not None
    assert (attached.backend_type.description, attached.backend_type.is_hardware) == ("simulated", True)


def test_a_calibration_keeps_what_is_queued_and_turns_new_jobs_away_for_now(
    running: Running, qpu: Qpu
) -> None:
    qpu.do(faults={"execute": ["hold"]})
    running.ask(circuit_job(1, uid=UID))
    running.ask(circuit_job(2, uid=UID))
    until(lambda: "execute" in qpu.commands())
    qpu.do(calibrating=True)
    qpu.do(release=True)
    status = until(lambda: (found := _backend(running)).state == "calibrating" and found)
    assert status.reason.startswith("since ")
    answer = running.ask(circuit_job(3, uid=UID))
    assert isinstance(answer, NotAdmitted)
    assert answer.retry
    assert answer.reason.startswith("Backend qx is calibrating: since ")
    until(lambda: _backend(running).queued == 1)
    qpu.do(calibrating=False)
    assert [_ended(running, job_id).state for job_id in (1, 2)] == ["finished", "finished"]


def test_an_execution_that_gets_lost_is_done_once_more_and_then_fails_with_the_reason(
    running: Running, qpu: Qpu
) -> None:
    qpu.do(faults={"execute": ["rubbish", None, "wrong job", "wrong session"]})
    for job_id in (1, 2, 3):
        until(lambda job=job_id: running.ask(circuit_job(job, uid=UID)) == Admitted())
        _ended(running, job_id)
    once, twice, later = (_ended(running, job_id) for job_id in (1, 2, 3))
    assert (once.state, later.state, twice.state) == ("finished", "finished", "failed")
    assert twice.reason.startswith("The hardware did not execute the circuit: ")
    assert qpu.commands().count("execute") == 5


def test_a_runtime_that_is_killed_in_a_session_leaves_no_lock_behind(running: Running, qpu: Qpu) -> None:
    running.ask(circuit_job(1, uid=UID))
    _ended(running, 1)
    assert qpu.do()["state"] == "EXECUTING"
    (worker,) = running.workers()
    os.kill(worker, signal.SIGKILL)
    until(lambda: qpu.do()["state"] == "IDLE")
    until(lambda: running.ask(circuit_job(2, uid=UID)) == Admitted())
    assert _ended(running, 2).state == "finished"


def test_a_dispatcher_that_is_killed_in_a_circuit_leaves_no_lock_and_the_next_one_goes_on(
    running: Running, qpu: Qpu
) -> None:
    qpu.do(faults={"execute": ["hold"]})
    running.ask(circuit_job(1, uid=UID))
    until(lambda: "execute" in qpu.commands())
    running.kill()
    qpu.do(release=True)
    until(lambda: qpu.do()["state"] == "IDLE")
    running.start()
    assert _ended(running, 1).state == "finished"


def test_a_cancelled_job_s_circuit_ends_its_process_and_gives_the_lock_back(
    running: Running, qpu: Qpu
) -> None:
    qpu.do(faults={"execute": ["hold"]})
    running.ask(circuit_job(1, uid=UID))
    until(lambda: "execute" in qpu.commands())
    (worker,) = running.workers()
    running.ask(Finish(job_id=1, restart=0, state="CANCELLED"))
    until(lambda: is_gone(worker))
    qpu.do(release=True)
    until(lambda: qpu.do()["state"] == "IDLE")
    until(lambda: running.ask(circuit_job(2, uid=UID)) == Admitted())
    assert _ended(running, 2).state == "finished"


def test_a_dispatcher_that_stops_gives_the_lock_back(running: Running, qpu: Qpu) -> None:
    running.ask(circuit_job(1, uid=UID))
    _ended(running, 1)
    assert running.stop() == 0
    until(lambda: qpu.do()["state"] == "IDLE")


def test_a_job_that_couples_often_waits_for_a_calibration_and_for_lost_answers(
    running: Running, qpu: Qpu
) -> None:
    running.ask(hybrid_job(1, "def execute(qi): pass\ndef finalize(results): return {}", uid=UID))
    with running.client() as client:
        step = DispatcherSession(client, 1, 0, say=lambda _: None, lanes=True)
        with closing(step):
            for number in range(60):
                if number == 20:
                    qpu.do(calibrating=0.3)
                if number == 40:
                    qpu.do(faults={"execute": ["rubbish"]})
                assert step.execute(BELL, 50, raw_data=False).shots_done == 50
            step.conclude(final_result="{}")
    assert qpu.commands().count("execute") == 61


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.slurm  # it needs none, but takes as long as if it did
@pytest.mark.parametrize(
    "options",
    [
        {
            "missed_heartbeats": 5,
            "reply_timeout_s": 1.0,
            "initialize_timeout_s": 1.0,
            "execute_timeout_s": 1.0,
        }
    ],
    ids=["hasty"],
)
def test_on_a_bad_day_every_job_ends_and_the_lock_is_free_in_the_evening(
    running: Running, qpu: Qpu, seed: int
) -> None:
    day = random.Random(seed)
    faults = ["drop", 1.2, "rubbish", "wrong session", "wrong job", "too many", "refuse"]

    def mishap() -> None:
        match day.randrange(6):
            case 0:
                qpu.do(faults={"execute": [day.choice(faults)]})
            case 1:
                qpu.do(
                    faults={day.choice(["initialize", "terminate", "get_static"]): [day.choice(faults[:4])]}
                )
            case 2:
                qpu.do(calibrating=0.4)
            case 3:
                for worker in running.workers():
                    os.kill(worker, signal.SIGKILL)
            case 4:
                qpu.kill()
                qpu.start()
            case 5:
                running.kill()
                running.start()

    jobs = range(1, 13)
    for job_id in jobs:
        until(lambda job=job_id: _admitted(running, job))
        if day.random() < 0.7:
            mishap()
    records = [_ended(running, job_id) for job_id in jobs]
    assert [record.reason for record in records if (record.state == "failed") != bool(record.reason)] == []
    assert sum(record.state == "finished" for record in records) >= len(jobs) // 2
    assert {record.shots for record in records if record.state == "finished"} == {100}
    running.stop()
    until(lambda: qpu.do()["state"] == "IDLE")


def _admitted(running: Running, job_id: int) -> bool:
    try:
        return running.ask(circuit_job(job_id, uid=UID)) == Admitted()
    except UnreachableError:  # it was killed a moment ago
        return False
