"""How long emulators take for a circuit, from its text to its counts, beside the libraries they use."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count

from bench.report import Report
from qslurm.runtimes import qx
from qslurm.runtimes.stabilizer import runtime as stabilizer
from qslurm.runtimes.statevector import runtime as statevector

SHOTS = 1024
_number = count()


def run(report: Report) -> None:
    """Measure circuits of two layers of Ry and CNOT, and a GHZ state; each circuit is new to the emulator."""
    statevector.load(threads=1)
    reference = report.measure("10 qubits: QX", _timed(qx.simulate, 10), unit="ms")
    report.measure("10 qubits: statevector", _timed(statevector.simulate, 10), unit="ms", peer=reference)
    report.measure("10 qubits: statevector, circuit seen before", _seen_before(10), unit="ms", peer=reference)
    report.measure("10 qubits: bare qulacs", partial(_bare_qulacs, 10), unit="ms", peer=reference)
    bare = report.measure("20 qubits: bare qulacs", partial(_bare_qulacs, 20), unit="ms")
    report.measure("20 qubits: statevector", _timed(statevector.simulate, 20), unit="ms", peer=bare)
    bare = report.measure(
        "10 qubits, measured once in the middle: bare qulacs", _bare_trajectories, unit="ms"
    )
    middle = _timed(statevector.simulate, 10, middle="b[0] = measure q[0]")
    report.measure("10 qubits, measured once in the middle: statevector", middle, unit="ms", peer=bare)
    bare = report.measure("GHZ state of 60 qubits: bare stim", _bare_stim, unit="ms")
    report.measure("GHZ state of 60 qubits: stabilizer", _ghz, unit="ms", peer=bare)


def layers(qubits: int, *, middle: str = "") -> str:
    """Two layers of Ry and CNOT, with angles that no earlier circuit had; `middle` stands between them."""
    lines = [f"version 3.0; qubit[{qubits}] q; bit[{qubits}] b"]
    for layer in range(2):
        lines += [f"Ry({0.1 * qubit + layer + next(_number) * 1e-3}) q[{qubit}]" for qubit in range(qubits)]
        lines += [f"CNOT q[{qubit}], q[{qubit + 1}]" for qubit in range(qubits - 1)]
        lines.append(middle if layer == 0 else "b = measure q")
    return "\n".join(lines)


def _ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def _timed(simulate: Callable[..., object], qubits: int, *, middle: str = "") -> Callable[[], float]:
    def once() -> float:
        text = layers(qubits, middle=middle)
        return _ms(lambda: simulate(text, SHOTS, seed=1))

    return once


def _seen_before(qubits: int) -> Callable[[], float]:
    text = layers(qubits)
    statevector.simulate(text, SHOTS)
    return lambda: _ms(lambda: statevector.simulate(text, SHOTS, seed=1))


def _bare_qulacs(qubits: int) -> float:
    import qulacs

    def work() -> dict[str, int]:
        state = qulacs.QuantumState(qubits)
        _qulacs_layers(qubits).update_quantum_state(state)
        counts = Counter(state.sampling(SHOTS, 1))
        return {format(value, f"0{qubits}b"): number for value, number in counts.items()}

    return _ms(work)


def _bare_trajectories() -> float:
    import qulacs

    def work() -> Counter[int]:
        circuit, counts = _qulacs_layers(10, middle=True), Counter[int]()
        for _ in range(SHOTS):
            state = qulacs.QuantumState(10)
            circuit.update_quantum_state(state)
            counts[state.sampling(1)[0]] += 1
        return counts

    return _ms(work)


def _qulacs_layers(qubits: int, *, middle: bool = False):  # type: ignore[no-untyped-def]
    import qulacs
    from qulacs import gate

    circuit = qulacs.QuantumCircuit(qubits)
    for layer in range(2):
        for qubit in range(qubits):
            circuit.add_gate(gate.RotY(qubit, 0.1 * qubit + layer))
        for qubit in range(qubits - 1):
            circuit.add_CNOT_gate(qubit, qubit + 1)
        if middle and layer == 0:
            circuit.add_gate(gate.Measurement(0, 0))
    return circuit


def _bare_stim() -> float:
    import stim

    def work() -> dict[str, int]:
        lines = [
            "H 0",
            *(f"CX {qubit} {qubit + 1}" for qubit in range(59)),
            f"M {' '.join(map(str, range(60)))}",
        ]
        data = stim.Circuit("\n".join(lines)).compile_sampler(seed=1).sample(SHOTS, bit_packed=True)
        rows = Counter(map(bytes, data))
        return {format(int.from_bytes(row, "little"), "060b"): number for row, number in rows.items()}

    work()  # numpy is imported by the first one
    return _ms(work)


def _ghz() -> float:
    gates = [f"CNOT q[{qubit}], q[{qubit + 1}]" for qubit in range(59)]
    text = "\n".join(
        [f"version 3.0; qubit[60] q; bit[60] b // {next(_number)}", "H q[0]", *gates, "b = measure q"]
    )
    return _ms(lambda: stabilizer.simulate(text, SHOTS, seed=1))
