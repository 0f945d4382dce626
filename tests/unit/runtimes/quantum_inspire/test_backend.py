"""A backend of Quantum Inspire's behind a real dispatcher: jobs go there, and come back, or are cancelled."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.store.task_records import TaskRecord
from qslurm.protocol.messages import Admitted, BackendStatus, Finish, NotAdmitted
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from tests.unit.c2.dispatcher.running import BELL, Running, circuit_job, hybrid_job
from tests.unit.runtimes.quantum_inspire.platform import BACKEND, Platform
from tests.unit.waiting import until

UID = os.getuid()
LONG_S = 60.0


@pytest.fixture(scope="module")
def shared_running(shared_platform: Platform) -> Iterator[Running]:
    home = Path(tempfile.mkdtemp(prefix="qs-", dir="/dev/shm"))
    options = {
        "credentials": str(shared_platform.credentials(home / "credentials.json")),
        "backend_type": BACKEND,
        "status_every_s": 0.05,
        "poll_s": 0.05,
    }
    backend = BackendConfig(name="qx", runtime="quantuminspire", qubits=5, options=options)
    with Running(home, backend=backend) as running:
        yield running
        running.stop()
    shutil.rmtree(home)


@pytest.fixture
def running(platform: Platform, shared_running: Running) -> Running:
    del platform
    until(lambda: _backend(shared_running).state == "idle", LONG_S)
    return shared_running


def _backend(running: Running) -> BackendStatus:
    running.ready()
    return running.status().backends[0]


def _ended(running: Running, job_id: int) -> TaskRecord:
    def found() -> TaskRecord | None:
        record = running.reader().task("a", job_id)
        return record if record is not None and record.state in {"finished", "failed"} else None

    record = until(found, LONG_S)
    assert record is not None
    return record


def test_a_circuit_job_is_executed_there_and_charged_by_its_clock(
    running: Running, platform: Platform
) -> None:
    platform.runner.seconds = 0.001
    assert running.ask(circuit_job(1, uid=UID)) == Admitted()
    record = _ended(running, 1)
    assert (record.state, record.shots, record.qpu_seconds) == ("finished", 100, 0.001)
    assert platform.runner.executed == [1]


def test_a_hybrid_job_couples_with_it_over_a_bad_link(running: Running, platform: Platform) -> None:
    running.ask(hybrid_job(2, "def execute(qi): pass\ndef finalize(results): return {}", uid=UID))
    with running.client() as client:
        step = DispatcherSession(client, 2, 0, say=lambda _: None, lanes=True)
        with closing(step):
            for number in range(12):
                if number in {3, 6, 9}:
                    platform.goes_wrong(["POST /files", r"GET /jobs/\d+", "PATCH .*"][number // 3 - 1], "cut")
                assert step.execute(BELL, 50, raw_data=False).shots_done == 50
            step.conclude(final_result="{}")
    assert platform.runner.executed == list(range(1, 13))
    until(lambda: running.ask(Finish(job_id=2, restart=0, state="COMPLETED")), LONG_S)


def test_a_calibration_there_turns_jobs_away_for_now(running: Running, platform: Platform) -> None:
    platform.runner.state, platform.runner.reason = "calibrating", "back at noon"
    until(lambda: _backend(running).state == "calibrating", LONG_S)
    answer = running.ask(circuit_job(3, uid=UID))
    assert isinstance(answer, NotAdmitted)
    assert answer.retry
    assert answer.reason.endswith("QX emulator is calibrating at Quantum Inspire: back at noon.")


def test_a_cancelled_job_is_cancelled_there(running: Running, platform: Platform) -> None:
    platform.runner.hold = "planned"
    running.ask(circuit_job(4, uid=UID))
    until(lambda: platform.count(r"GET /jobs/\d+") > 0, LONG_S)
    running.ask(Finish(job_id=4, restart=0, state="CANCELLED"))
    until(lambda: platform.runner.cancelled == [1], LONG_S)
    platform.runner.hold = ""
    until(lambda: running.ask(circuit_job(5, uid=UID)) == Admitted(), LONG_S)
    assert _ended(running, 5).state == "finished"
    assert platform.runner.executed == [2]
