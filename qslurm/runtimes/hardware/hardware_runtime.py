"""The plug-in `hardware`: executes circuits on a quantum computer that speaks Quantum Inspire's command set.

A session is initialize, many executes, terminate. It is begun with the first circuit and given back when none
has come for a while, or when it has been held for so long that the hardware should get a chance to calibrate.
A server that gives no answer, or a wrong one, is left alone until it describes itself again.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from qslurm.errors import JobFailedError
from qslurm.runtimes.circuit_limits import refuse_raw_data, refuse_too_wide
from qslurm.runtimes.hardware.hardware_options import HardwareOptions
from qslurm.runtimes.hardware.messages import PROTOCOL_VERSION, HardwareRefusedError
from qslurm.runtimes.health import Health
from qslurm.runtimes.interface import BackendType, Outcome
from qslurm.runtimes.machine_result import InvalidReplyError, MachineResult, check_results

if TYPE_CHECKING:
    from qslurm.circuits.check import CircuitFacts
    from qslurm.runtimes.hardware.machine_lock import MachineLock
    from qslurm.runtimes.plugin import BackendFacts

_SHARE = 0.8  # of the dispatcher's limit: this process would rather give up by itself than be killed


class HardwareRuntime:
    """One process of it serves a backend: the hardware's lock has one holder."""

    Options = HardwareOptions
    max_workers = 1

    def __init__(self, backend: BackendFacts, options: HardwareOptions, /) -> None:
        self._backend = backend
        self._options = options
        self._opened: MachineLock | None = None

    @property
    def backend_type(self) -> BackendType:
        """What the configuration says, and what the hardware has said of itself by now."""
        facts = self._backend
        known = BackendType(
            name=facts.name,
            identifier=facts.name,
            nqubits=facts.qubits,
            max_number_of_shots=facts.max_shots,
            default_number_of_shots=facts.default_shots,
            is_hardware=True,
            protocol_version=PROTOCOL_VERSION,
        )
        static = self._opened.static if self._opened is not None else None
        if self._opened is None or static is None:
            return known
        dynamic = self._opened.dynamic
        return msgspec.structs.replace(
            known,
            description=static.name,
            nqubits=min(static.nqubits, facts.qubits),
            gateset=static.pgs,
            topology=[list(pair) for pair in static.topology],
            default_compiler_config=static.default_compiler_config,
            supports_raw_data=static.supports_raw_data,
            messages={"get_dynamic": {"content": dynamic}} if dynamic else {},
        )

    def open(self) -> None:
        """Get ready to listen and ask. A server that is not there is no error: it may come."""
        from qslurm.runtimes.hardware.machine_lock import MachineLock

        limit_s = min(self._options.execute_timeout_s, self._backend.execution_limit_s * _SHARE)
        self._opened = MachineLock(self._options, limit_s)

    def close(self) -> None:
        """Give the hardware's lock back."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def attend(self) -> Health:
        """How the hardware is; sessions that are not used are ended here."""
        return self._session.look()

    def execute(self, circuit: str, shots: int, *, seed: int | None, raw_data: bool, file: str) -> Outcome:  # noqa: ARG002
        """ExecutePayload a circuit. Hardware does not repeat itself: the seed is not looked at."""
        from qslurm.circuits.check import check_circuit

        session = self._session
        facts = check_circuit(circuit, file=file)
        program = self._program(circuit, facts, file, raw_data=raw_data)
        started = time.perf_counter()
        try:
            executed = session.execute(program, shots, raw_data=raw_data)
        except HardwareRefusedError as error:
            raise JobFailedError(f"{file}: the hardware rejected the circuit: {error.message}.") from error
        seconds = time.perf_counter() - started
        try:
            check_results(executed, shots, self._widths(facts))
        except InvalidReplyError as error:
            session.lost(error.message)
        if raw_data and executed.raw_data is None:
            raise JobFailedError(f"{file}: the hardware returned no raw data.")
        return self._outcome(executed, facts, shots, seconds, raw_data=raw_data)

    @property
    def _session(self) -> MachineLock:
        if self._opened is None:
            raise ValueError("the runtime is not open")
        return self._opened

    def _program(self, circuit: str, facts: CircuitFacts, file: str, *, raw_data: bool) -> str:
        known = self.backend_type
        if raw_data:
            refuse_raw_data(known)
        by_qubit = self._options.results == "qubits"
        needed = facts.readout.qubits if by_qubit else facts.qubits
        refuse_too_wide(known, facts, needed, file)
        if by_qubit:
            return facts.readout.program
        return circuit if facts.translation is None else facts.translation.program

    def _widths(self, facts: CircuitFacts) -> set[int]:
        """How long a result's strings may be: as the circuit's qubits, or as all that the hardware has."""
        if self._options.results == "bits":
            return {facts.bits}
        static = self._session.static
        return {facts.readout.qubits} | ({static.nqubits} if static is not None else set())

    def _outcome(
        self, executed: MachineResult, facts: CircuitFacts, shots: int, seconds: float, *, raw_data: bool
    ) -> Outcome:
        by_qubit = self._options.results == "qubits"
        counts: Counter[str] = Counter()
        for key, count in executed.results.items():
            counts[facts.readout.key(key) if by_qubit else key] += count
        strings = executed.raw_data if raw_data else None
        if strings is not None and by_qubit:
            strings = [facts.readout.key(string) for string in strings]
        return Outcome(
            counts=dict(sorted(counts.items())),
            raw_data=strings,
            shots_requested=shots,
            # All of them, even where the server tells only of the most frequent results.
            shots_done=shots if strings is None else len(strings),
            seconds=seconds,
        )
