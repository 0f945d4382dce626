"""Executes a circuit on a state vector: once for all shots as far as nothing is measured before the end.

A qubit that is measured or reset, and used again, splits the shots: for each outcome that is drawn the state goes on
with so many of them. A circuit without such a measurement costs one pass and a sample; with them it costs at most
a pass for each shot, and far less where outcomes repeat.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from qslurm.circuits.operations import Circuit, Measurement, Operation, QuantumGate, Reset, Swap
from qslurm.runtimes.statevector.gates import compiled

if TYPE_CHECKING:
    import qulacs

BYTES_PER_AMPLITUDE = 16


class _Split(NamedTuple):
    """Qubits of the state that are measured together in the middle, the bits they go into, and which are reset."""

    qubits: tuple[int, ...]
    bits: tuple[tuple[int, int | None], ...]
    resets: frozenset[int]


class _Plan(NamedTuple):
    """What is done: gates, then a split, and so on, and gates at last; then `readout` (bit, qubit) is sampled."""

    qubits: int
    gates: tuple[qulacs.QuantumCircuit, ...]
    splits: tuple[_Split, ...]
    readout: tuple[tuple[int, int], ...]
    bits: int


def qubits_needed(circuit: Circuit) -> int:
    """How many qubits the state has: those that a gate changes; the others are 0."""
    return max(1, len(_used(circuit.operations)))


def memory_needed(qubits: int) -> int:
    """Bytes that an execution with one state takes: the state, and as much for sampling it."""
    return 2 * BYTES_PER_AMPLITUDE << qubits


def sample(circuit: Circuit, shots: int, seed: int | None, *, states: int = 64) -> Iterator[tuple[str, int]]:
    """Execute a circuit; yield keys (the first bit rightmost), each with how many shots in a row had it.

    Keys come repeatedly. At most `states` states (and one) are in memory; where more are needed, some are
    computed again. The same seed gives the same keys in the same order.
    """
    plan = _plan(circuit)
    stream = random.Random(seed)  # noqa: S311 -- a simulation, no secret
    for bits, samples in _leaves(plan, shots, stream, states):
        yield from _keys(plan, bits, samples)


# --- what is measured when ---------------------------------------------------------------------------


def _used(operations: Sequence[Operation]) -> dict[int, int]:
    """The qubits that gates change, and where each is in the state."""
    used: dict[int, int] = {}
    for operation in operations:
        if isinstance(operation, QuantumGate):
            for qubit in (*operation.controls, operation.target):
                used.setdefault(qubit, len(used))
        elif isinstance(operation, Swap):
            used.setdefault(operation.first, len(used))
            used.setdefault(operation.second, len(used))
    return dict(zip(sorted(used), range(len(used)), strict=True))


def _plan(circuit: Circuit) -> _Plan:
    at = _used(circuit.operations)
    late = _late_measurements(circuit.operations)
    gates: list[list[QuantumGate | Swap]] = [[]]
    splits: list[_Split] = []
    readout: dict[int, int] = {}
    for number, operation in enumerate(circuit.operations):
        if isinstance(operation, QuantumGate | Swap):
            gates[-1].append(operation)
            continue
        if operation.qubit not in at:
            if isinstance(operation, Measurement):  # of a qubit that is 0 always
                readout.pop(operation.bit, None)
                if splits:
                    splits[-1] = splits[-1]._replace(bits=(*splits[-1].bits, (operation.bit, None)))
            continue
        qubit = at[operation.qubit]
        if isinstance(operation, Measurement):
            if number in late:
                readout[operation.bit] = qubit
                continue
            readout.pop(operation.bit, None)
        _split(operation, qubit, gates, splits)
    return _Plan(
        qubits=max(1, len(at)),
        gates=tuple(compiled(part, at or {0: 0}) for part in gates),
        splits=tuple(splits),
        readout=tuple(sorted(readout.items())),
        bits=circuit.bits,
    )


def _split(
    operation: Measurement | Reset, qubit: int, gates: list[list[QuantumGate | Swap]], splits: list[_Split]
) -> None:
    """Add a measurement or reset in the middle: to the last split, if no gate came after it."""
    if gates[-1] or not splits or qubit in splits[-1].resets:
        gates.append([])
        splits.append(_Split((), (), frozenset()))
    last = splits[-1]
    if qubit not in last.qubits:
        last = last._replace(qubits=(*last.qubits, qubit))
    if isinstance(operation, Reset):
        last = last._replace(resets=last.resets | {qubit})
    else:
        last = last._replace(bits=(*last.bits, (operation.bit, qubit)))
    splits[-1] = last


def _late_measurements(operations: Sequence[Operation]) -> set[int]:
    """The measurements that can as well be made at the end: nothing is done to their qubits afterwards."""
    late: set[int] = set()
    changed: set[int] = set()
    for number, operation in reversed(list(enumerate(operations))):
        match operation:
            case QuantumGate(target=target, controls=controls):
                changed.update((target, *controls))
            case Swap(first, second):
                changed.update((first, second))
            case Reset(qubit):
                changed.add(qubit)
            case Measurement(qubit=qubit) if qubit not in changed:
                late.add(number)
    return late


# --- execution ---------------------------------------------------------------------------------------


class _Branch(NamedTuple):
    """Shots that have measured the same so far; `path` are the outcomes of the splits, `bits` what they wrote."""

    path: tuple[int, ...]
    bits: dict[int, int]
    shots: int


def _leaves(
    plan: _Plan, shots: int, stream: random.Random, states: int
) -> Iterator[tuple[dict[int, int], list[int]]]:
    """For each path that shots took: the bits written on it, and what the state's qubits were at the end."""
    waiting: list[tuple[_Branch, qulacs.QuantumState | None]] = [(_Branch((), {}, shots), None)]
    kept = 0
    while waiting:
        branch, before = waiting.pop()
        if before is None:
            state = _replayed(plan, branch.path)
        elif waiting and waiting[-1][1] is before:
            state = before.copy()
        else:
            state, kept = before, kept - 1
        if before is not None:
            _project(state, plan.splits[len(branch.path) - 1], branch.path[-1])
        step = len(branch.path)
        plan.gates[step].update_quantum_state(state)
        if step == len(plan.splits):
            yield (
                branch.bits,
                state.sampling(branch.shots, stream.getrandbits(32)) if plan.readout else [0] * branch.shots,
            )
            continue
        split = plan.splits[step]
        mask = sum(1 << qubit for qubit in split.qubits)
        outcomes = Counter(each & mask for each in state.sampling(branch.shots, stream.getrandbits(32)))
        keep = state if kept < states else None
        kept += keep is not None
        for outcome in sorted(outcomes):
            bits = branch.bits | {
                bit: 0 if qubit is None else outcome >> qubit & 1 for bit, qubit in split.bits
            }
            waiting.append((_Branch((*branch.path, outcome), bits, outcomes[outcome]), keep))


def _replayed(plan: _Plan, path: tuple[int, ...]) -> qulacs.QuantumState:
    """The state after the last split of a path, computed from the beginning."""
    import qulacs

    state = qulacs.QuantumState(plan.qubits)
    for gates, split, outcome in zip(plan.gates, plan.splits, path, strict=False):
        gates.update_quantum_state(state)
        _project(state, split, outcome)
    return state


def _project(state: qulacs.QuantumState, split: _Split, outcome: int) -> None:
    from qulacs import gate

    for qubit in split.qubits:
        one = outcome >> qubit & 1
        (gate.P1 if one else gate.P0)(qubit).update_quantum_state(state)
        if one and qubit in split.resets:
            gate.X(qubit).update_quantum_state(state)
    state.normalize(state.get_squared_norm())


def _keys(plan: _Plan, bits: dict[int, int], samples: list[int]) -> Iterator[tuple[str, int]]:
    """The keys of a path's shots."""
    fixed = sum(value << bit for bit, value in bits.items())
    for bit, _ in plan.readout:
        fixed &= ~(1 << bit)
    width = plan.bits
    if plan.readout == tuple((at, at) for at in range(plan.qubits)) and not fixed:
        for value, count in Counter(samples).items():
            yield format(value, f"0{width}b"), count
        return
    for value, count in Counter(samples).items():
        key = fixed
        for bit, qubit in plan.readout:
            key |= (value >> qubit & 1) << bit
        yield format(key, f"0{width}b"), count
