"""The plug-in `hardware`: executes circuits on a quantum computer that speaks Quantum Inspire's command set.

A session is initialize, many executes, terminate. It begins with the first circuit and ends when no circuit has
come for a while, or when it has lasted so long that the hardware should get a chance to calibrate. A server
that gives no reply, or an invalid one, is left alone until it describes itself again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from qslurm.errors import JobFailedError
from qslurm.runtimes.circuit_limits import refuse_raw_data, refuse_too_wide
from qslurm.runtimes.hardware.hardware_options import HardwareOptions
from qslurm.runtimes.hardware.messages import PROTOCOL_VERSION, HardwareRefusedError
from qslurm.runtimes.health import Health
from qslurm.runtimes.interface import BackendType, Outcome
from qslurm.runtimes.machine_result import InvalidReplyError, MachineResult, check_results, counts_by_bit

if TYPE_CHECKING:
    from qslurm.circuits.check import CircuitFacts
    from qslurm.runtimes.hardware.machine_lock import MachineLock
    from qslurm.runtimes.plugin import BackendFacts


class HardwareRuntime:
    """Its process is the only one of the backend: the hardware's lock has one holder."""

    Options = HardwareOptions
    max_workers = 1

    def __init__(self, backend: BackendFacts, options: HardwareOptions, /) -> None:
        self._backend = backend
        self._options = options
        self._opened: MachineLock | None = None

    @property
    def backend_type(self) -> BackendType:
        """The backend as configured, and what the hardware has reported by now."""
        facts = self._backend
        known = facts.backend_type(is_hardware=True, protocol_version=PROTOCOL_VERSION)
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
        """Get ready to receive status and send commands. The server need not be reachable yet."""
        from qslurm.runtimes.hardware.machine_lock import MachineLock

        limit_s = self._backend.own_limit_s(self._options.execute_timeout_s)
        self._opened = MachineLock(self._options, limit_s)

    def close(self) -> None:
        """Release the hardware's lock."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def attend(self) -> Health:
        """The hardware's health; also ends a session that is not used."""
        return self.machine_lock.check()

    def execute(self, circuit: str, shots: int, *, seed: int | None, raw_data: bool, file: str) -> Outcome:  # noqa: ARG002
        """Execute a circuit. Hardware does not repeat itself: the seed is ignored."""
        from qslurm.circuits.check import check_circuit

        machine_lock = self.machine_lock
        facts = check_circuit(circuit, file=file)
        program = self._program(circuit, facts, file, raw_data=raw_data)
        started = time.perf_counter()
        try:
            executed = machine_lock.execute(program, shots, raw_data=raw_data)
        except HardwareRefusedError as error:
            raise JobFailedError(f"{file}: the hardware rejected the circuit: {error.message}.") from error
        seconds = time.perf_counter() - started
        try:
            check_results(executed, shots, self._widths(facts))
        except InvalidReplyError as error:
            machine_lock.fail_execution(error.message)
        if raw_data and executed.raw_data is None:
            raise JobFailedError(f"{file}: the hardware returned no raw data.")
        return self._outcome(executed, facts, shots, seconds, raw_data=raw_data)

    @property
    def machine_lock(self) -> MachineLock:
        """The connection to the hardware; ValueError before `open`."""
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
        """The possible lengths of a result's strings: the circuit's qubits, or all qubits of the hardware."""
        if self._options.results == "bits":
            return {facts.bits}
        static = self.machine_lock.static
        return {facts.readout.qubits} | ({static.nqubits} if static is not None else set())

    def _outcome(
        self, executed: MachineResult, facts: CircuitFacts, shots: int, seconds: float, *, raw_data: bool
    ) -> Outcome:
        by_qubit = self._options.results == "qubits"
        strings = executed.raw_data if raw_data else None
        if strings is not None and by_qubit:
            strings = [facts.readout.key(string) for string in strings]
        return Outcome(
            counts=counts_by_bit(executed.results, facts.readout)
            if by_qubit
            else dict(sorted(executed.results.items())),
            raw_data=strings,
            shots_requested=shots,
            # all of them, even if the server reports only the most frequent results
            shots_done=shots if strings is None else len(strings),
            seconds=seconds,
        )
