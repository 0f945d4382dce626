"""Circuits that take more than they may end with a reason, and those beside them don't notice."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.errors import JobFailedError
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from qslurm.runtimes.qx import memory_for
from qslurm.system.child_process import ran_out_of_memory
from tests.unit.c2.dispatcher.running import BELL, ROOT, Running, circuit_job, hybrid_job, slow_circuit
from tests.unit.waiting import until

UID = os.getuid()


def test_a_circuit_that_exhausts_its_memory_fails_once_and_its_neighbour_goes_on(home: Path) -> None:
    backend = BackendConfig(name="qx", workers=2, qubits=24, options={"memory_mib": 32})
    with Running(home, backend=backend) as running:
        running.ready()
        running.ask(circuit_job(1, slow_circuit(19), uid=UID, shots=1))
        for job_id in range(2, 12):
            running.ask(circuit_job(job_id, uid=UID))
        reader = running.reader()
        ended = [until(lambda job=job_id: _ended(reader, job)) for job_id in range(1, 12)]
    assert (ended[0].state, ended[0].reason) == (
        "failed",
        "The circuit needs more memory than its quantum runtime has.",
    )
    assert [record.state for record in ended[1:]] == ["finished"] * 10


def test_a_circuit_by_lane_that_exhausts_its_memory_fails_and_the_job_goes_on(home: Path) -> None:
    backend = BackendConfig(name="qx", qubits=24, options={"memory_mib": 32})
    with Running(home, backend=backend) as running, running.ready().client() as client:
        running.ask(hybrid_job(1, "def execute(qi): pass\ndef finalize(results): return {}", uid=UID))
        step = DispatcherSession(client, 1, 0, say=lambda _: None, lanes=True)
        with closing(step):
            for _ in range(20):
                step.execute(BELL, 10, raw_data=False)
            with pytest.raises(JobFailedError, match="needs more memory than its quantum runtime has"):
                step.execute(slow_circuit(19), 1, raw_data=False)
            assert step.execute(BELL, 10, raw_data=False).shots_done == 10


def test_a_circuit_by_lane_that_hangs_fails_with_that_reason_and_the_job_goes_on(home: Path) -> None:
    with Running(home, execution_limit_s=1.0) as running, running.ready().client() as client:
        running.ask(hybrid_job(1, "def execute(qi): pass\ndef finalize(results): return {}", uid=UID))
        step = DispatcherSession(client, 1, 0, say=lambda _: None, lanes=True)

        def executes(circuit: str, shots: int) -> bool:
            try:
                step.execute(circuit, shots, raw_data=False)
            except JobFailedError as error:  # on a busy machine also little work may take too long
                assert "exceeded its time limit of 1 s" in error.message
                return False
            return True

        with closing(step):
            until(lambda: executes(BELL, 10) and step.has_lane)
            assert not executes(slow_circuit(24), 1)
            until(lambda: executes(BELL, 10))


def _ended(reader: object, job_id: int) -> object:
    record = reader.task("a", job_id)  # type: ignore[attr-defined]
    return record if record is not None and record.state in {"finished", "failed"} else None


def test_a_python_that_runs_out_of_memory_is_told_from_one_that_ends_otherwise() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); " + (
        "from qslurm.system.child_process import limit_memory; limit_memory(1 << 24); bytes(1 << 26)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran_out_of_memory(done.stderr)
    assert not ran_out_of_memory("Segmentation fault")


def test_more_qubits_may_take_more_memory_but_not_the_whole_host() -> None:
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory_for(2) < memory_for(20) <= memory_for(64) < host
