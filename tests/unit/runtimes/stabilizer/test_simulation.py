from __future__ import annotations

from collections import Counter

import pytest

from qslurm.circuits.operations import read_circuit
from qslurm.errors import CircuitError
from qslurm.runtimes.plugin import BackendFacts
from qslurm.runtimes.stabilizer.runtime import StabilizerOptions, StabilizerRuntime, simulate
from qslurm.runtimes.stabilizer.simulation import is_clifford, sample
from qslurm.runtimes.statevector.runtime import simulate as simulate_statevector
from tests.unit.runtimes.random_circuits import assert_same_distribution, random_circuit

GHZ = "version 3.0; qubit[50] q; bit[50] b; H q[0]; CNOT q[0:48], q[1:49]; b = measure q"


@pytest.mark.parametrize("part", range(4))
def test_random_clifford_circuits_give_what_the_state_vector_gives(part: int) -> None:
    for seed in range(part, 200, 4):
        text = random_circuit(seed, clifford=True)
        assert_same_distribution(
            simulate(text, 2000, seed=1).counts, simulate_statevector(text, 2000, seed=2).counts
        )


def test_fifty_qubits_are_all_or_none() -> None:
    outcome = simulate(GHZ, 1000, seed=1, raw_data=True)
    assert set(outcome.counts) == {"0" * 50, "1" * 50}
    assert outcome.raw_data is not None
    assert Counter(outcome.raw_data) == outcome.counts


def test_hundreds_of_qubits_are_no_trouble() -> None:
    program = "version 3.0; qubit[300] q; bit[300] b; H q[0]; CNOT q[0:298], q[1:299]; b = measure q"
    samples = dict(sample(read_circuit(program, "circuit"), 100, 1))
    assert set(samples) == {"0" * 300, "1" * 300}


def test_a_circuit_outside_the_clifford_group_is_refused() -> None:
    text = "version 3.0; qubit[2] q; bit[2] b; H q; ctrl.S q[0], q[1]; b = measure q"
    assert not is_clifford(read_circuit(text, "circuit"))
    with pytest.raises(CircuitError, match=r"t\.cq: the circuit has gates outside the Clifford group"):
        simulate(text, 10, file="t.cq")


def test_as_a_plug_in_it_executes_and_describes_itself() -> None:
    facts = BackendFacts(name="large", qubits=64, max_shots=4000, default_shots=1000)
    runtime = StabilizerRuntime(facts, StabilizerOptions())
    runtime.open()
    assert len(runtime.execute(GHZ, 100, seed=1, raw_data=False, file="ghz.cq").counts) == 2
    assert "stim" in runtime.backend_type.description
    runtime.close()
