"""A simulated machine as backend spin2: jobs wait while it is away, and its lock is released."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from people import SLOW_HYBRID, Researcher, eventually, operator
from testbed import Testbed

from tests.unit.runtimes.hardware.qpu_simulator import Qpu

pytestmark = pytest.mark.slurm

EXECUTIONS = 20
BELL = "version 3.0\nqubit[2] q\nbit[2] b\nH q[0]\nCNOT q[0], q[1]\nb = measure q\n"


@pytest.fixture
def machine(testbed: Testbed) -> Iterator[Qpu]:
    """The platform's configuration names it for as long as the test runs."""
    qpu = Qpu(qubits=2)
    file = testbed.layout.c2_qslurm
    before = file.read_text()
    emulated = 'name = "spin2"\nruntime = "qx"\n'
    assert emulated in before
    options = ", ".join(f'{name} = {f"{value!r}" if isinstance(value, str) else value}' for name, value in
                        {**qpu.options, "release_after_s": 1.0}.items())  # fmt: skip
    file.write_text(
        before.replace(emulated, f'name = "spin2"\nruntime = "hardware"\noptions = {{ {options} }}\n')
    )
    testbed.restart("dispatcher")
    yield qpu
    file.write_text(before)
    testbed.restart("dispatcher")
    qpu.kill()


@pytest.fixture
def alice(testbed: Testbed, machine: Qpu) -> Researcher:
    operator(testbed, "partition", "enable", "p_spin2")
    eventually(lambda: "spin2 idle" in operator(testbed, "partition", "status"), "the machine to be idle")
    return Researcher(testbed)


def is_held_for_calibration(testbed: Testbed) -> bool:
    """Whether Slurm starts nothing in p_spin2, and operators are told why."""
    rows = json.loads(operator(testbed, "partition", "status", "--json"))["partitions"]
    row = next(row for row in rows if row["partition"] == "p_spin2")
    return row["slurm_state"] == "DOWN" and "backend spin2 is calibrating: since " in row["reason"]


def test_jobs_wait_for_the_end_of_a_calibration_and_everybody_is_told(
    alice: Researcher, machine: Qpu
) -> None:
    machine.do(calibrating=True)
    eventually(lambda: is_held_for_calibration(alice.testbed), "the gate to hold the partition")
    job_id = alice.submits(alice.writes("bell.cq", BELL), "--backend", "spin2", "--shots", "100")
    assert alice.sees(job_id) == "PENDING"
    machine.do(calibrating=False)
    assert alice.ends_as(job_id) == "COMPLETED"
    assert sum(alice.gets("results", str(job_id))["counts"].values()) == 100
    eventually(lambda: machine.do()["state"] == "IDLE", "the lock to be given back")
    assert machine.commands() == ["initialize", "execute", "terminate"]


def test_a_hybrid_job_outlives_its_dispatcher_and_the_machine_gets_its_lock_back(
    alice: Researcher, machine: Qpu
) -> None:
    alice.writes("long.py", SLOW_HYBRID.format(executions=EXECUTIONS, pause_s=0.1))
    job_id = alice.submits("long.py", "--backend", "spin2")
    eventually(lambda: "executed 3" in alice.types("logs", str(job_id)).stdout, "the job to be in its middle")
    alice.testbed.kill("dispatcher")
    eventually(lambda: machine.do()["state"] == "IDLE", "the guard to give the lock back")
    alice.testbed.up()
    assert alice.ends_as(job_id) == "COMPLETED"
    assert alice.gets("results", str(job_id))["executions"] == EXECUTIONS
    eventually(lambda: machine.do()["state"] == "IDLE", "the lock to be given back")
