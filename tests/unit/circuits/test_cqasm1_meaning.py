"""Programs of cQASM 1.0 on the real QX, compared with a simulator that knows nothing of cQASM."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qslurm.runtimes.qx import simulate
from tests.unit.circuits.statevector import PAULI, Simulation, assert_follows, controlled, phase, rotation

QUBITS = 3
HADAMARD = np.array([[1, 1], [1, -1]]) / math.sqrt(2)
Y_BASIS = np.array([[1, 1], [1j, -1j]]) / math.sqrt(2)

GATES: dict[str, np.ndarray] = {
    "i": np.eye(2),
    "h": HADAMARD,
    **PAULI,
    "s": phase(math.pi / 2),
    "sdag": phase(-math.pi / 2),
    "t": phase(math.pi / 4),
    "tdag": phase(-math.pi / 4),
    "x90": rotation("x", math.pi / 2),
    "mx90": rotation("x", -math.pi / 2),
    "y90": rotation("y", math.pi / 2),
    "my90": rotation("y", -math.pi / 2),
    "cnot": controlled(PAULI["x"]),
    "cz": controlled(PAULI["z"]),
    "swap": np.eye(4)[[0, 2, 1, 3]],
    "toffoli": controlled(controlled(PAULI["x"])),
}
TURNS: dict[str, Callable[[float], np.ndarray]] = {
    "rx": lambda angle: rotation("x", angle),
    "ry": lambda angle: rotation("y", angle),
    "rz": lambda angle: rotation("z", angle),
    "cr": lambda angle: controlled(phase(angle)),
}
ANGLES = {
    "pi/2": math.pi / 2,
    "-PI / 3": -math.pi / 3,
    "2 * (pi - 1)": 2 * (math.pi - 1),
    "-2**2/7": 4 / 7,
    "7 // 2 % 2": 1.0,
    "1.5e-05": 1.5e-05,
    "sqrt(2)": math.sqrt(2),
    ".5": 0.5,
}
PREPARED = {"prep": [1, 0], "prep_z": [1, 0], "prep_x": HADAMARD[:, 0], "prep_y": Y_BASIS[:, 0]}
BASES = {"measure": np.eye(2), "measure_z": np.eye(2), "measure_x": HADAMARD, "measure_y": Y_BASIS}

Step = Callable[[Simulation], None]


@st.composite
def instructions(draw: st.DrawFn) -> tuple[str, Step]:
    """One instruction, in any way to write it, and what it does."""
    order = draw(st.permutations(range(QUBITS)))
    name = draw(st.sampled_from([*GATES, *TURNS, *PREPARED, *BASES, "crk", "measure_all", "idle", "many"]))
    case = draw(st.sampled_from([str.lower, str.upper, str.title]))
    written = [draw(st.sampled_from([f"q[{i}]", f"Q[ {i} ]", f"name{i}", f"wire[{i}]"])) for i in order]
    if name in GATES:
        matrix = GATES[name]
        count = len(matrix).bit_length() - 1
        return f"{case(name)} {', '.join(written[:count])}", lambda s: s.apply(matrix, order[:count])
    if name in TURNS:
        angle = draw(st.sampled_from(sorted(ANGLES)))
        matrix = TURNS[name](ANGLES[angle])
        count = len(matrix).bit_length() - 1
        text = f"{case(name)} {', '.join(written[:count])}, {angle}"
        return text, lambda s: s.apply(matrix, order[:count])
    if name == "crk":
        k = draw(st.integers(0, 5))
        matrix = controlled(phase(2 * math.pi / 2**k))
        return f"{case(name)} {written[0]}, {written[1]}, {k}", lambda s: s.apply(matrix, order[:2])
    if name in PREPARED:
        vector = np.array(PREPARED[name])
        return f"{case(name)} {written[0]}", lambda s: s.prepare(order[0], vector)
    if name in BASES:
        return f"{case(name)} {written[0]}", lambda s: s.measure(order[0], order[0], BASES[name])
    if name == "measure_all":
        return case(name), lambda s: [s.measure(i, i) for i in range(QUBITS)] and None
    if name == "many":
        return draw(broadcasts())
    return draw(
        st.sampled_from(["wait q[0,1], 3", "skip 2", "barrier q", "display", "DISPLAY b[0]"])
    ), lambda s: None


@st.composite
def broadcasts(draw: st.DrawFn) -> tuple[str, Step]:
    """One gate on several qubits, or several gates in parallel."""
    angle = draw(st.sampled_from(sorted(ANGLES)))
    matrix = rotation("y", ANGLES[angle])

    def all_turned(simulation: Simulation) -> None:
        for qubit in range(QUBITS):
            simulation.apply(matrix, [qubit])

    a, b = f"q[{QUBITS - 1}]", f"q[0:{QUBITS - 2}]"
    texts = [
        f"ry q, {angle}",
        f"ry wire[0, 1:{QUBITS - 1}], {angle}",
        f"{{ ry {a}, {angle} | ry {b}, {angle} }}",
        f"ry {a}, {angle} | ry {b}, {angle}",
        f"{{\n  ry {a}, {angle} # one\n  ry {b}, \\\n {angle}\n}}",
    ]
    return draw(st.sampled_from(texts)), all_turned


@st.composite
def programs(draw: st.DrawFn) -> tuple[str, dict[str, float]]:
    version = draw(
        st.sampled_from(["version 1.0", "# old\n\nVersion 1.0", "/* 3.0 */ version 1.0", "version 1.2"])
    )
    names = [f"map q[{i}], name{i}" for i in range(QUBITS - 1)] + [f"map NAME{QUBITS - 1} = q[{QUBITS - 1}]"]
    lines = [version, f"qubits {QUBITS}", "map q, wire", *names]
    simulation = Simulation(QUBITS, QUBITS)
    for number in range(draw(st.integers(1, 3))):
        part = draw(st.lists(instructions(), max_size=5))
        iterations = draw(st.integers(1, 2))
        lines.append(f".part{number}({iterations})" if iterations > 1 else f".part{number}")
        lines += [text for text, _ in part]
        for step in [step for _, step in part] * iterations:
            step(simulation)
    lines += [".end", "measure_all"]
    for qubit in range(QUBITS):
        simulation.measure(qubit, qubit)
    ends = st.sampled_from(["\n", " # x q[0]\n", ";", "; ", "\r\n", "\n\n  "])
    return "".join(line + draw(ends) for line in lines), simulation.probabilities()


@settings(max_examples=50)
@given(programs())
def test_a_translated_program_does_what_the_original_says(case: tuple[str, dict[str, float]]) -> None:
    text, expected = case
    assert_follows(simulate(text, 1000, seed=17).counts, expected)


def test_the_papers_program_runs_as_it_is() -> None:
    counts = simulate("version 1.0; qubits 2; H q[0]; measure_all", 1000, seed=1).counts
    assert set(counts) == {"00", "01"}
    assert 400 < counts["01"] < 600


def test_there_is_a_bit_for_each_qubit_and_those_never_measured_are_0() -> None:
    assert simulate("version 1.0\nqubits 4\nx q[0:3]\nmeasure q[1,2]\n", 7).counts == {"0110": 7}


def test_a_later_measurement_of_a_qubit_replaces_the_earlier_one() -> None:
    assert simulate("version 1.0\nqubits 1\nmeasure q[0]\nx q[0]\nmeasure q[0]\n", 5).counts == {"1": 5}


def test_a_value_measured_before_the_qubit_is_prepared_again_stays() -> None:
    text = "version 1.0\nqubits 2\nx q[0]\nmeasure q[0]\nprep_z q[0]\ncnot q[0], q[1]\nmeasure q[1]\n"
    assert simulate(text, 5).counts == {"01": 5}


@pytest.mark.parametrize("iterations", [1, 2, 3, 4])
def test_a_subcircuit_is_repeated_and_the_next_one_is_not(iterations: int) -> None:
    text = f"version 1.0\nqubits 2\n.flip({iterations})\nx q[0]\n.rest\nx q[1]\nmeasure_all"
    assert simulate(text, 1).counts == {f"1{iterations % 2}": 1}


@pytest.mark.parametrize("basis", sorted(BASES))
def test_measuring_leaves_the_qubit_in_the_basis_that_was_measured(basis: str) -> None:
    text = f"version 1.0\nqubits 2\n{basis} q[0]\n{basis} q[0]\ncnot q[0], q[1]\n{basis} q[0]\nmeasure q[1]"
    simulation = Simulation(2, 2)
    simulation.measure(0, 0, BASES[basis])
    simulation.measure(0, 0, BASES[basis])
    simulation.apply(GATES["cnot"], [0, 1])
    simulation.measure(0, 0, BASES[basis])
    simulation.measure(1, 1)
    assert_follows(simulate(text, 1000, seed=3).counts, simulation.probabilities())
