"""Results by classical bit, compared with a simulator that knows nothing of QX, libqasm or spare qubits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qslurm.errors import CircuitError
from qslurm.runtimes.qx import simulate


@dataclass
class Program:
    """A program of X, CNOT, SWAP, reset and measure: as cQASM, and computed with plain bits at once."""

    qubit_sizes: list[int]
    bit_sizes: list[int]
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.qubits = [False] * sum(self.qubit_sizes)
        self.bits = [False] * sum(self.bit_sizes)


def name(prefix: str, sizes: list[int], index: int) -> str:
    for register, size in enumerate(sizes):
        if index < size:
            return f"{prefix}{register}[{index}]"
        index -= size
    raise AssertionError


@st.composite
def programs(draw: st.DrawFn) -> tuple[str, str]:
    sizes = st.lists(st.integers(1, 3), min_size=1, max_size=3)
    program = Program(draw(sizes), draw(sizes))
    qubit = st.integers(0, len(program.qubits) - 1)
    bit = st.integers(0, len(program.bits) - 1)
    kinds = ["x", "x", "cnot", "swap", "reset", "measure", "measure", "registers", "slices", "noise"]
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=20)):
        _append(draw, program, kind, qubit, bit)
    _append(draw, program, "measure", qubit, bit)
    separator = st.sampled_from(
        [";", "\n", " ;\n", " // b0 = measure q0\n", "/* ; b0[0] = measure q0[0] */;"]
    )
    declared = [f"qubit[{size}] q{i}" for i, size in enumerate(program.qubit_sizes)]
    declared += [f"bit[{size}] b{i}" for i, size in enumerate(program.bit_sizes)]
    declared = draw(st.permutations(declared))
    text = "".join(line + draw(separator) for line in ["version 3.0", *declared])
    # The order of declaration decides where a bit stands in the key.
    order = [int(line.rpartition("b")[2]) for line in declared if line.startswith("bit")]
    values = [_register(program.bits, program.bit_sizes, register) for register in order]
    expected = "".join("01"[value] for register in reversed(values) for value in reversed(register))
    return text + "".join(line + draw(separator) for line in program.lines), expected


def _register(values: list[bool], sizes: list[int], register: int) -> list[bool]:
    start = sum(sizes[:register])
    return values[start : start + sizes[register]]


def _append(
    draw: st.DrawFn, program: Program, kind: str, qubit: st.SearchStrategy[int], bit: st.SearchStrategy[int]
) -> None:
    a, b, c = draw(qubit), draw(qubit), draw(bit)
    one, other = name("q", program.qubit_sizes, a), name("q", program.qubit_sizes, b)
    match kind:
        case "x":
            program.qubits[a] ^= True
            program.lines.append(f"X {one}")
        case "cnot" if a != b:
            program.qubits[b] ^= program.qubits[a]
            program.lines.append(f"CNOT {one}, {other}")
        case "swap" if a != b:
            program.qubits[a], program.qubits[b] = program.qubits[b], program.qubits[a]
            program.lines.append(f"SWAP {one}, {other}")
        case "reset":
            program.qubits[a] = False
            program.lines.append(f"reset {one}")
        case "noise":
            program.lines.append(draw(st.sampled_from([f"barrier {one}", f"wait(3) {one}", f"Z {one}", ""])))
        case "measure":
            program.bits[c] = program.qubits[a]
            program.lines.append(f"{name('b', program.bit_sizes, c)} = measure /* now */ {one}")
        case "registers" | "slices":
            _append_many(draw, program, whole=kind == "registers")
        case _:
            pass


def _append_many(draw: st.DrawFn, program: Program, *, whole: bool) -> None:
    """Measure a register into a register, or some qubits of one into as many bits of another."""
    q, b = (
        draw(st.integers(0, len(program.qubit_sizes) - 1)),
        draw(st.integers(0, len(program.bit_sizes) - 1)),
    )
    size = min(program.qubit_sizes[q], program.bit_sizes[b])
    if whole and program.qubit_sizes[q] != program.bit_sizes[b]:
        return
    some_qubits = draw(st.permutations(range(program.qubit_sizes[q])))[:size]
    some_bits = list(range(size))
    if whole:
        some_qubits = list(range(size))
        program.lines.append(f"b{b} = measure q{q}")
    else:
        program.lines.append(f"b{b}[0:{size - 1}] = measure q{q}[{', '.join(map(str, some_qubits))}]")
    q_start, b_start = sum(program.qubit_sizes[:q]), sum(program.bit_sizes[:b])
    for qubit, bit in zip(some_qubits, some_bits, strict=True):
        program.bits[b_start + bit] = program.qubits[q_start + qubit]


@settings(max_examples=75)
@given(programs())
def test_every_bit_has_the_value_of_its_last_measurement(case: tuple[str, str]) -> None:
    text, expected = case
    assert simulate(text, 2).counts == {expected: 2}


def test_a_value_measured_in_the_middle_is_the_one_that_the_rest_of_the_circuit_saw() -> None:
    """The first bit decides the second by a CNOT made after the measurement: they can never differ."""
    text = """version 3.0; qubit[2] q; bit[3] b
        H q[0]
        b[0] = measure q[0]   // a coin
        CNOT q[0], q[1]
        b[1] = measure q[1]   // the same coin
        H q[0]
        b[2] = measure q[0]   // a new one
    """
    counts = simulate(text, 4000, seed=3).counts
    assert set(counts) == {"000", "100", "011", "111"}
    assert all(850 < count < 1150 for count in counts.values())


def test_a_measurement_in_the_middle_disturbs_the_state() -> None:
    undisturbed = simulate("version 3.0; qubit q; bit b; H q; H q; b = measure q", 500, seed=1)
    disturbed = simulate(
        "version 3.0; qubit q; bit[2] b; H q; b[0] = measure q; H q; b[1] = measure q", 500, seed=1
    )
    assert undisturbed.counts == {"0": 500}
    assert len(disturbed.counts) == 4


def test_resetting_one_qubit_of_an_entangled_pair_leaves_the_other_mixed() -> None:
    text = """version 3.0; qubit[2] q; bit[2] b
        H q[0]
        CNOT q[0], q[1]
        reset q[0]
        H q[1]
        b = measure q
    """
    counts = simulate(text, 1000, seed=2).counts
    assert set(counts) == {"00", "10"}
    assert 400 < counts["00"] < 600


def test_spare_qubits_have_a_name_of_their_own() -> None:
    text = "version 3.0; qubit spare; bit[2] spare_bits; X spare; spare_bits[0] = measure spare"
    assert simulate(text + "; X spare; spare_bits[1] = measure spare", 1).counts == {"01": 1}


def test_intermediate_values_that_do_not_fit_are_refused() -> None:
    again = "; b[0] = measure q[0]; X q[0]; b[1] = measure q[0]"
    assert simulate("version 3.0; qubit[63] q; bit[2] b" + again, 1).counts == {"10": 1}
    try:
        simulate("version 3.0; qubit[64] q; bit[2] b" + again, 1, file="big.cq")
    except CircuitError as error:
        assert error.message.startswith("big.cq: 1 values")
    else:
        raise AssertionError("64 qubits and a spare one")


def test_a_value_that_is_overwritten_anyway_needs_no_spare_qubit() -> None:
    text = "version 3.0; qubit[64] q; bit b; b = measure q[0]; X q[0]; b = measure q[0]"
    assert simulate(text, 1).counts == {"1": 1}


# --- superpositions: a statevector simulator that follows every outcome of every measurement ---------

GATES = {
    "H": np.array([[1, 1], [1, -1]]) / np.sqrt(2),
    "X": np.array([[0, 1], [1, 0]]),
    "T": np.diag([1, np.exp(0.25j * np.pi)]),
}
Branch = tuple[np.ndarray, tuple[int, ...]]


def project(state: np.ndarray, qubit: int, value: int) -> np.ndarray:
    kept = np.zeros_like(state)
    at = (slice(None),) * qubit + (value,)
    kept[at] = state[at]
    return kept


def flip(state: np.ndarray, qubit: int) -> np.ndarray:
    return np.flip(state, qubit)


def distribution(steps: list[tuple[str, int, int]], qubits: int, bits: int) -> dict[str, float]:
    """The exact probability of each key; states are not normalised, so that their norm is their probability."""
    start = np.zeros((2,) * qubits, dtype=complex)
    start[(0,) * qubits] = 1
    branches: list[Branch] = [(start, (0,) * bits)]
    for gate, a, b in steps:
        branches = [
            after for before in branches for after in step(before, gate, a, b) if norm(after[0]) > 1e-12
        ]
    total: dict[str, float] = {}
    for state, values in branches:
        key = "".join(map(str, reversed(values)))
        total[key] = total.get(key, 0.0) + norm(state)
    return total


def norm(state: np.ndarray) -> float:
    return float(np.vdot(state, state).real)


def step(branch: Branch, gate: str, a: int, b: int) -> list[Branch]:
    state, values = branch
    if gate in GATES:
        return [(np.moveaxis(np.tensordot(GATES[gate], state, ([1], [a])), 0, a), values)]
    zero, one = project(state, a, 0), project(state, a, 1)
    if gate == "CNOT":
        return [(zero + flip(one, b), values)]
    if gate == "reset":
        return [(zero, values), (flip(one, a), values)]
    return [(part, (*values[:b], value, *values[b + 1 :])) for value, part in enumerate((zero, one))]


@st.composite
def coherent_programs(draw: st.DrawFn) -> tuple[str, dict[str, float]]:
    kinds = st.sampled_from(["H", "H", "X", "T", "CNOT", "CNOT", "measure", "measure", "reset"])
    steps = draw(st.lists(st.tuples(kinds, st.integers(0, 2), st.integers(0, 2)), max_size=14))
    steps = [each for each in steps if each[0] != "CNOT" or each[1] != each[2]] + [("measure", 0, 0)]
    lines = ["version 3.0", "qubit[3] q", "bit[3] b"]
    for gate, a, b in steps:
        match gate:
            case "CNOT":
                lines.append(f"CNOT q[{a}], q[{b}]")
            case "measure":
                lines.append(f"b[{b}] = measure q[{a}]")
            case _:
                lines.append(f"{gate} q[{a}]")
    return "\n".join(lines), distribution(steps, 3, 3)


@settings(max_examples=50)
@given(coherent_programs())
def test_outcomes_have_the_probabilities_of_quantum_mechanics(case: tuple[str, dict[str, float]]) -> None:
    text, expected = case
    shots = 1000
    counts = simulate(text, shots, seed=11).counts
    assert set(counts) <= set(expected)
    for key, probability in expected.items():
        deviation = np.sqrt(shots * probability * (1 - probability))
        assert abs(counts.get(key, 0) - shots * probability) <= 6 * deviation + 1
