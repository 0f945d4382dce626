from __future__ import annotations

import os
from collections import Counter

import pytest

from qslurm.circuits.operations import read_circuit
from qslurm.errors import CircuitError
from qslurm.runtimes import qx
from qslurm.runtimes.plugin import BackendFacts
from qslurm.runtimes.statevector.runtime import StatevectorOptions, StatevectorRuntime, simulate
from qslurm.runtimes.statevector.simulation import memory_needed, qubits_needed, sample
from tests.unit.runtimes.random_circuits import assert_same_distribution, random_circuit

CIRCUITS = int(os.environ.get("QSLURM_TEST_CIRCUITS", "200"))
BELL = "version 3.0\nqubit[2] q\nbit[2] b\nH q[0]\nCNOT q[0], q[1]\nb = measure q\n"
TELEPORTED = """version 3.0
qubit[3] q; bit[3] b
Ry(1.1) q[0]
H q[1]
CNOT q[1], q[2]
CNOT q[0], q[1]
H q[0]
b[0, 1] = measure q[0, 1]
CNOT q[1], q[2]
CZ q[0], q[2]
b[2] = measure q[2]
"""


@pytest.mark.parametrize("part", range(4))
def test_random_circuits_give_what_qx_gives(part: int) -> None:
    for seed in range(part, CIRCUITS, 4):
        text = random_circuit(seed)
        assert_same_distribution(simulate(text, 400, seed=1).counts, qx.simulate(text, 400, seed=2).counts)


@pytest.mark.parametrize("states", [0, 1, 2, 64])
def test_states_that_are_not_kept_are_computed_again_with_the_same_outcome(states: int) -> None:
    for seed in range(20):
        circuit = read_circuit(random_circuit(seed), "circuit")
        assert list(sample(circuit, 500, 3, states=states)) == list(sample(circuit, 500, 3))


def test_a_teleported_qubit_is_what_it_was() -> None:
    counts = simulate(TELEPORTED, 20_000, seed=4).counts
    ones = sum(count for key, count in counts.items() if key[0] == "1")
    assert ones / 20_000 == pytest.approx(0.2732, abs=0.015)  # sin(1.1 / 2) squared
    assert len(counts) == 8


def test_a_seed_repeats_itself_and_raw_data_has_the_same_counts() -> None:
    outcome = simulate(TELEPORTED, 300, seed=5, raw_data=True)
    assert outcome.counts == simulate(TELEPORTED, 300, seed=5).counts
    assert outcome.raw_data is not None
    assert Counter(outcome.raw_data) == outcome.counts
    assert outcome.raw_data == simulate(TELEPORTED, 300, seed=5, raw_data=True).raw_data
    assert outcome.raw_data != sorted(outcome.raw_data)
    assert outcome.counts != simulate(TELEPORTED, 300, seed=6).counts


@pytest.mark.parametrize("seed", [-1, 0, 2**63, 2**200])
def test_any_integer_is_a_seed(seed: int) -> None:
    assert simulate(BELL, 10, seed=seed).counts == simulate(BELL, 10, seed=seed).counts


def test_a_bit_has_what_was_written_last() -> None:
    text = (
        "version 3.0; qubit[3] q; bit[2] b; X q[0]; b[0] = measure q[0]; H q[0]; "
        "b[0] = measure q[2]; b[1] = measure q[0]"
    )
    assert set(simulate(text, 100, seed=1).counts) == {"00", "10"}


def test_a_reset_qubit_leaves_its_partner_collapsed() -> None:
    text = "version 3.0; qubit[2] q; bit[2] b; H q[0]; CNOT q[0], q[1]; reset q[0]; H q[1]; b = measure q"
    counts = simulate(text, 10_000, seed=2).counts
    assert set(counts) == {"00", "10"}
    assert counts["00"] / 10_000 == pytest.approx(0.5, abs=0.03)


def test_only_qubits_that_gates_change_take_memory() -> None:
    circuit = read_circuit(
        "version 3.0; qubit[60] q; bit[60] b; H q[41]; CNOT q[41], q[2]; b = measure q", "circuit"
    )
    assert qubits_needed(circuit) == 2
    assert memory_needed(qubits_needed(circuit)) < 1000


def test_what_needs_too_much_memory_is_refused_before_it_is_taken() -> None:
    text = "version 3.0; qubit[40] q; bit[40] b; H q; b = measure q"
    with pytest.raises(CircuitError, match=r"large\.cq: 40 qubits need 3.28e\+04 GiB of memory"):
        simulate(text, 10, file="large.cq")
    with pytest.raises(CircuitError, match="20 qubits need 32 MiB of memory; 8 MiB are available"):
        simulate(text.replace("40", "20"), 10, memory=8 << 20)


def test_as_a_plug_in_it_executes_and_describes_itself() -> None:
    facts = BackendFacts(name="fast", qubits=26, max_shots=4000, default_shots=1000)
    runtime = StatevectorRuntime(facts, StatevectorOptions(memory_mib=64, threads=1))
    runtime.open()
    assert set(runtime.execute(BELL, 100, seed=1, raw_data=False, file="bell.cq").counts) == {"00", "11"}
    assert "qulacs" in runtime.backend_type.description
    with pytest.raises(CircuitError, match="of memory"):
        runtime.execute(
            "version 3.0; qubit[26] q; bit[26] b; H q; b = measure q", 1, seed=1, raw_data=False, file="x.cq"
        )
    runtime.close()
