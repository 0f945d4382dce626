"""The plug-in `quantuminspire`: executes circuits on the Quantum Inspire platform, through its official client.

For the platform each circuit is a job of its own, in its own queue. It is begun with one request (`enqueue`) that
names a job known before, so that after a cut nothing has to be sent again without having looked.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from qslurm.errors import InvalidInputError, QslurmError
from qslurm.runtimes.circuit_limits import refuse_raw_data, refuse_too_wide
from qslurm.runtimes.health import Health, RetryDelay, TryLaterError
from qslurm.runtimes.interface import BackendType, Outcome
from qslurm.runtimes.quantum_inspire.quantum_inspire_options import QuantumInspireOptions

if TYPE_CHECKING:
    from qslurm.circuits.check import CircuitFacts, Readout
    from qslurm.runtimes.plugin import BackendFacts
    from qslurm.runtimes.quantum_inspire.job_runner import JobRunner, PlatformResult

_SHARE = 0.8  # of the dispatcher's limit: this process would rather give up by itself than be killed


class QuantumInspireRuntime:
    """One process of it serves a backend, with one circuit at the platform at a time."""

    Options = QuantumInspireOptions
    max_workers = 1

    def __init__(self, backend: BackendFacts, options: QuantumInspireOptions, /) -> None:
        self._backend = backend
        self._options = options
        self._opened: JobRunner | None = None
        self._theirs: Any = None  # what the platform says of its backend type
        self._health = Health("offline", "no reply from Quantum Inspire yet")
        self._retry_delay = RetryDelay("Quantum Inspire")
        self._look_at = 0.0

    @property
    def backend_type(self) -> BackendType:
        """What the configuration says, and what the platform has said by now."""
        facts, theirs = self._backend, self._theirs
        known = BackendType(
            name=facts.name,
            identifier=facts.name,
            nqubits=facts.qubits,
            max_number_of_shots=facts.max_shots,
            default_number_of_shots=facts.default_shots,
        )
        if theirs is None:
            return known
        return msgspec.structs.replace(
            known,
            id=theirs.id,
            description=theirs.description,
            infrastructure=theirs.infrastructure,
            nqubits=min(facts.qubits, theirs.nqubits),
            max_number_of_shots=min(facts.max_shots, theirs.max_number_of_shots),
            default_number_of_shots=min(facts.default_shots, theirs.max_number_of_shots),
            gateset=[gate for gate in theirs.gateset if gate],
            topology=theirs.topology,
            features=[feature for feature in theirs.features if feature],
            default_compiler_config=theirs.default_compiler_config,
            supports_raw_data=theirs.supports_raw_data,
            is_hardware=theirs.is_hardware,
            protocol_version=theirs.protocol_version,
            messages={name: {"content": each.content or ""} for name, each in theirs.messages.items()},
        )

    def open(self) -> None:
        """Read the credentials. A platform that is not there is no error: it may come."""
        from qslurm.runtimes.quantum_inspire.job_runner import JobRunner

        limit_s = min(self._options.execute_timeout_s, self._backend.execution_limit_s * _SHARE)
        self._opened = JobRunner(self._options, limit_s)

    def close(self) -> None:
        """Cancel what is at the platform, as far as it can be."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def attend(self) -> Health:
        """How the platform's backend is, asked every `status_every_s`. Asking may take a request's time."""
        from qslurm.runtimes.quantum_inspire.platform_link import AwayError, RequestRefusedError

        self._desk.look()
        if time.monotonic() < self._look_at or not self._retry_delay.is_over():
            return self._health
        try:
            self._theirs = self._desk.backend_type()
        except AwayError as error:
            self._in_trouble(error.message)
        except RequestRefusedError as error:
            self._in_trouble(f"cannot read the state of its backend: {error.message}")
        else:
            self._look_at = time.monotonic() + self._options.status_every_s
            self._health = health_of(self._theirs)
        return self._health

    def execute(self, circuit: str, shots: int, *, seed: int | None, raw_data: bool, file: str) -> Outcome:  # noqa: ARG002
        """Execute a circuit. The platform does not repeat itself: the seed is not looked at."""
        from qslurm.circuits.bit_indices import indexed_by_qubit
        from qslurm.circuits.check import check_circuit

        facts = check_circuit(circuit, file=file)
        self._refuse_impossible(facts, shots, file, raw_data=raw_data)
        readout = indexed_by_qubit(facts.readout, file)
        try:
            measured = self._desk.execute(readout, shots, raw_data=raw_data, file=file)
        except TryLaterError as error:
            self._in_trouble(error.message.rstrip("."))
            raise
        except QslurmError:
            self._retry_delay = RetryDelay("Quantum Inspire")  # it answers
            raise
        self._retry_delay = RetryDelay("Quantum Inspire")
        return _outcome(measured, readout, shots)

    @property
    def _desk(self) -> JobRunner:
        if self._opened is None:
            raise ValueError("the runtime is not open")
        return self._opened

    def _in_trouble(self, why: str) -> None:
        self._retry_delay.fail(why)
        self._health = self._retry_delay.health()
        self._look_at = 0.0  # as soon as it has been left alone for long enough

    def _refuse_impossible(self, facts: CircuitFacts, shots: int, file: str, *, raw_data: bool) -> None:
        known = self.backend_type
        if raw_data:
            refuse_raw_data(known)
        if shots > known.max_number_of_shots:
            raise InvalidInputError(
                f"{file}: {known.name} runs at most {known.max_number_of_shots} shots, not {shots}."
            )
        refuse_too_wide(known, facts, facts.readout.qubits, file)


def health_of(theirs: Any) -> Health:
    """How a backend type of the platform's is, in our words."""
    from qslurm.runtimes.quantum_inspire.platform_link import words

    said = "; ".join(filter(None, (words(each.content) for each in theirs.messages.values())))
    more = f": {said}" if said else ""
    name = words(theirs.name)
    if not theirs.enabled:
        return Health("offline", f"{name} is switched off at Quantum Inspire{more}")
    status = str(theirs.status.value)
    if status in {"idle", "executing"}:
        return Health("idle" if status == "idle" else "executing")
    if status in {"calibrating", "benchmarking"}:
        return Health("calibrating", f"{name} is {status} at Quantum Inspire{more}")
    return Health("offline", f"{name} is {status} at Quantum Inspire{more}")


def _outcome(measured: PlatformResult, readout: Readout, shots: int) -> Outcome:
    counts: Counter[str] = Counter()
    for key, count in measured.counts.items():
        counts[readout.key(key)] += count
    strings = measured.raw_data
    return Outcome(
        counts=dict(sorted(counts.items())),
        raw_data=None if strings is None else [readout.key(string) for string in strings],
        shots_requested=shots,
        shots_done=measured.shots_done,
        seconds=measured.seconds,
    )
