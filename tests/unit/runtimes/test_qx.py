from __future__ import annotations

from collections import Counter

import pytest

from qslurm.errors import CircuitError, InvalidInputError
from qslurm.runtimes.qx import simulate
from qslurm.runtimes.simulated_backend import backend_type

BELL = "version 3.0\nqubit[2] q\nbit[2] b\nH q[0]\nCNOT q[0], q[1]\nb = measure q\n"


def test_a_bell_pair_reads_the_same_on_both_qubits() -> None:
    outcome = simulate(BELL, 1024)
    assert set(outcome.counts) == {"00", "11"}
    assert sum(outcome.counts.values()) == outcome.shots_done == outcome.shots_requested == 1024
    assert outcome.raw_data is None
    assert outcome.seconds > 0


def test_keys_are_classical_bits_and_not_qubits() -> None:
    assert simulate("version 3.0; qubit[3] q; bit[2] b; X q[2]; b[0] = measure q[2]", 5).counts == {"01": 5}


def test_registers_stand_in_the_order_of_their_declaration_the_first_rightmost() -> None:
    text = "version 3.0; bit c; qubit[2] q; bit[2] b; X q[0]; c = measure q[0]; b[1] = measure q[0]"
    assert simulate(text, 1).counts == {"101": 1}


def test_a_seed_repeats_itself() -> None:
    assert simulate(BELL, 1000, seed=7).counts == simulate(BELL, 1000, seed=7).counts
    assert len({simulate(BELL, 1000, seed=seed).counts["00"] for seed in range(10)}) > 5


@pytest.mark.parametrize("seed", [-1, 0, 2**63, 2**200])
def test_any_integer_is_a_seed(seed: int) -> None:
    assert simulate(BELL, 10, seed=seed).counts == simulate(BELL, 10, seed=seed).counts


def test_raw_data_is_one_string_for_each_shot_and_the_counts_are_theirs() -> None:
    outcome = simulate(BELL, 200, seed=5, raw_data=True)
    assert outcome.raw_data is not None
    assert Counter(outcome.raw_data) == outcome.counts
    assert len(outcome.raw_data) == 200
    assert 60 < outcome.counts["00"] < 140
    assert outcome.raw_data == simulate(BELL, 200, seed=5, raw_data=True).raw_data
    assert outcome.raw_data != simulate(BELL, 200, seed=6, raw_data=True).raw_data


@pytest.mark.parametrize("shots", [0, -5, 1.5, "many", True, None])
def test_what_is_no_number_of_shots_is_refused(shots: object) -> None:
    with pytest.raises(InvalidInputError, match="number of shots"):
        simulate(BELL, shots)  # type: ignore[arg-type]


def test_a_circuit_that_only_qx_refuses_is_an_error_too() -> None:
    with pytest.raises(CircuitError, match=r"late\.cq: the QX emulator rejected the circuit: .*init"):
        simulate("version 3.0; qubit q; bit b; X q; init q; b = measure q", 1, file="late.cq")


def test_an_invalid_circuit_never_reaches_qx() -> None:
    with pytest.raises(CircuitError, match=r"circuit:1:31: couldn't find instruction 'HH'"):
        simulate("version 3.0; qubit q; bit b;  HH q", 1)


def test_a_backend_describes_itself_in_words_of_quantum_inspire() -> None:
    described = backend_type("qx", qubits=26, max_shots=1000, default_shots=100)
    assert (described.name, described.nqubits, described.is_hardware) == ("qx", 26, False)
    assert {"CNOT", "measure", "reset", "barrier"} <= set(described.gateset)
