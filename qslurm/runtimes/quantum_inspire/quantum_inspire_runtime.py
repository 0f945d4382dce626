"""The plug-in `quantuminspire`: executes circuits on the Quantum Inspire platform, through its official client.

Each circuit is a job of its own there, in the platform's queue. One request (`enqueue`), which names a job
created before, starts it; so after a broken connection nothing is repeated without a check.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from qslurm.errors import InvalidInputError, QslurmError
from qslurm.runtimes.circuit_limits import refuse_raw_data, refuse_too_wide
from qslurm.runtimes.health import Health, RetryDelay, TryLaterError
from qslurm.runtimes.interface import BackendType, Outcome
from qslurm.runtimes.machine_result import counts_by_bit
from qslurm.runtimes.quantum_inspire.quantum_inspire_options import QuantumInspireOptions

if TYPE_CHECKING:
    from qslurm.circuits.check import CircuitFacts, Readout
    from qslurm.runtimes.plugin import BackendFacts
    from qslurm.runtimes.quantum_inspire.job_runner import JobRunner, PlatformResult


class QuantumInspireRuntime:
    """Its process is the only one of the backend, and has one circuit at the platform at a time."""

    Options = QuantumInspireOptions
    max_workers = 1

    def __init__(self, backend: BackendFacts, options: QuantumInspireOptions, /) -> None:
        self._backend = backend
        self._options = options
        self._opened: JobRunner | None = None
        self._platform_type: Any = None  # the platform's description of its backend type
        self._health = Health("offline", "no reply from Quantum Inspire yet")
        self._retry_delay = RetryDelay("Quantum Inspire")
        self._check_at = 0.0

    @property
    def backend_type(self) -> BackendType:
        """The backend as configured, and what the platform has reported by now."""
        facts, platform_type = self._backend, self._platform_type
        known = facts.backend_type()
        if platform_type is None:
            return known
        return msgspec.structs.replace(
            known,
            id=platform_type.id,
            description=platform_type.description,
            infrastructure=platform_type.infrastructure,
            nqubits=min(facts.qubits, platform_type.nqubits),
            max_number_of_shots=min(facts.max_shots, platform_type.max_number_of_shots),
            default_number_of_shots=min(facts.default_shots, platform_type.max_number_of_shots),
            gateset=[gate for gate in platform_type.gateset if gate],
            topology=platform_type.topology,
            features=[feature for feature in platform_type.features if feature],
            default_compiler_config=platform_type.default_compiler_config,
            supports_raw_data=platform_type.supports_raw_data,
            is_hardware=platform_type.is_hardware,
            protocol_version=platform_type.protocol_version,
            messages={name: {"content": each.content or ""} for name, each in platform_type.messages.items()},
        )

    def open(self) -> None:
        """Read the credentials. The platform need not be reachable yet."""
        from qslurm.runtimes.quantum_inspire.job_runner import JobRunner

        limit_s = self._backend.own_limit_s(self._options.execute_timeout_s)
        self._opened = JobRunner(self._options, limit_s)

    def close(self) -> None:
        """Cancel the jobs at the platform, as far as possible."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def attend(self) -> Health:
        """The health of the platform's backend, read every `status_every_s`. Reading may take a request's time."""
        from qslurm.runtimes.quantum_inspire.platform_link import RequestRefusedError, UnavailableError

        self._runner.check_guard()
        if time.monotonic() < self._check_at or not self._retry_delay.is_over():
            return self._health
        try:
            self._platform_type = self._runner.backend_type()
        except UnavailableError as error:
            self._note_error(error.message)
        except RequestRefusedError as error:
            self._note_error(f"cannot read the state of its backend: {error.message}")
        else:
            self._check_at = time.monotonic() + self._options.status_every_s
            self._health = health_of(self._platform_type)
        return self._health

    def execute(self, circuit: str, shots: int, *, seed: int | None, raw_data: bool, file: str) -> Outcome:  # noqa: ARG002
        """Execute a circuit. The platform does not repeat itself: the seed is ignored."""
        from qslurm.circuits.bit_indices import indexed_by_qubit
        from qslurm.circuits.check import check_circuit

        facts = check_circuit(circuit, file=file)
        self._refuse_impossible(facts, shots, file, raw_data=raw_data)
        readout = indexed_by_qubit(facts.readout, file)
        try:
            measured = self._runner.execute(readout, shots, raw_data=raw_data, file=file)
        except TryLaterError as error:
            self._note_error(error.message.rstrip("."))
            raise
        except QslurmError:
            self._retry_delay = RetryDelay("Quantum Inspire")  # the platform works
            raise
        self._retry_delay = RetryDelay("Quantum Inspire")
        return _outcome(measured, readout, shots)

    @property
    def _runner(self) -> JobRunner:
        if self._opened is None:
            raise ValueError("the runtime is not open")
        return self._opened

    def _note_error(self, why: str) -> None:
        self._retry_delay.fail(why)
        self._health = self._retry_delay.health()
        self._check_at = 0.0  # as soon as the retry delay is over

    def _refuse_impossible(self, facts: CircuitFacts, shots: int, file: str, *, raw_data: bool) -> None:
        known = self.backend_type
        if raw_data:
            refuse_raw_data(known)
        if shots > known.max_number_of_shots:
            raise InvalidInputError(
                f"{file}: {known.name} runs at most {known.max_number_of_shots} shots, not {shots}."
            )
        refuse_too_wide(known, facts, facts.readout.qubits, file)


def health_of(platform_type: Any) -> Health:
    """The health that a backend type of the platform has."""
    from qslurm.runtimes.quantum_inspire.platform_link import clean_text

    text = "; ".join(filter(None, (clean_text(each.content) for each in platform_type.messages.values())))
    detail = f": {text}" if text else ""
    name = clean_text(platform_type.name)
    if not platform_type.enabled:
        return Health("offline", f"{name} is switched off at Quantum Inspire{detail}")
    status = str(platform_type.status.value)
    if status in {"idle", "executing"}:
        return Health("idle" if status == "idle" else "executing")
    if status in {"calibrating", "benchmarking"}:
        return Health("calibrating", f"{name} is {status} at Quantum Inspire{detail}")
    return Health("offline", f"{name} is {status} at Quantum Inspire{detail}")


def _outcome(measured: PlatformResult, readout: Readout, shots: int) -> Outcome:
    strings = measured.raw_data
    return Outcome(
        counts=counts_by_bit(measured.counts, readout),
        raw_data=None if strings is None else [readout.key(string) for string in strings],
        shots_requested=shots,
        shots_done=measured.shots_done,
        seconds=measured.seconds,
    )
