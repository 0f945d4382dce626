"""What classical and quantum runtimes share: the `qi` object, the outcome of an execution, the description of a
backend.

The names are those of Quantum Inspire's published interface (`qi2_shared.hybrid.quantum_interface` and
`compute_api_client.BackendType`), so that a file written for that platform runs here unchanged.
"""

from __future__ import annotations

import operator
from collections.abc import Generator, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol, Self

import msgspec

from qslurm.errors import InvalidInputError


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one execution (one circuit, n shots).

    `counts` maps bit strings to how often they were measured: one character for each classical bit of the
    circuit, in the order of declaration, the first bit rightmost. `raw_data` has one such string for each shot,
    in order, or is None if it was not requested. `seconds` is how long the quantum runtime was busy.
    """

    counts: dict[str, int]
    raw_data: list[str] | None = None
    shots_requested: int
    shots_done: int
    seconds: float


class BackendType(msgspec.Struct, frozen=True, kw_only=True):
    """A backend as hybrid files see it (`qi.backend_type`); the fields are those of Quantum Inspire's API.

    `topology` lists the pairs of qubits that two-qubit gates may join (empty: all of them). It can also be read
    as a mapping: Quantum Inspire's Qiskit plugin validates `qi.backend_type` as one.
    """

    name: str
    nqubits: int
    max_number_of_shots: int
    default_number_of_shots: int
    gateset: list[str] = []
    topology: list[list[int]] = []
    supports_raw_data: bool = True
    is_hardware: bool = False
    id: int = 0
    infrastructure: str = "qslurm"
    description: str = ""
    image_id: str = ""
    features: list[str] = []
    default_compiler_config: dict[str, Any] = {}
    status: str = "idle"
    messages: dict[str, dict[str, str]] = {}
    enabled: bool = True
    identifier: str = ""
    protocol_version: int | None = None
    job_execution_time_limit: float = 0.0
    max_jobs_per_batch_job: int = 1
    batchjobs_per_queue_limit: int = 1

    def keys(self) -> tuple[str, ...]:
        """The names of the fields."""
        return self.__struct_fields__

    def items(self) -> list[tuple[str, Any]]:
        """The fields with their values."""
        return [(name, getattr(self, name)) for name in self.__struct_fields__]

    def values(self) -> list[Any]:
        """The values of the fields."""
        return [value for _, value in self.items()]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a field, or the default if there is no such field."""
        return getattr(self, name) if name in self.__struct_fields__ else default

    def __getitem__(self, name: str) -> Any:
        if name not in self.__struct_fields__:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__struct_fields__)

    def __len__(self) -> int:
        return len(self.__struct_fields__)


Mapping.register(BackendType)


class CircuitTransport(Protocol):
    """How a classical runtime reaches a quantum one: through the dispatcher, or within this process."""

    @property
    def backend_type(self) -> BackendType:
        """The backend that executes the circuits."""
        ...

    def execute(self, circuit: str, number_of_shots: int, raw_data: bool) -> Outcome:
        """Execute one circuit and wait for its outcome; raises QslurmError if it cannot be executed."""
        ...

    def execute_many(
        self, circuits: Iterable[str], number_of_shots: int, raw_data: bool
    ) -> Iterator[Outcome]:
        """Execute circuits without waiting for each before the next is sent; yields their outcomes in order.

        Raises QslurmError at the first circuit that cannot be executed, and begins no others.
        """
        ...


class ExecuteCircuitResult(msgspec.Struct, frozen=True, eq=False):
    """The result of `qi.execute_circuit`. It can be awaited, for files whose `execute` is a coroutine.

    Two results are never equal, so that results are hashable and `asyncio.gather` accepts them.
    """

    results: dict[str, int]
    raw_data: list[str] | None
    shots_requested: int
    shots_done: int

    def __await__(self) -> Generator[None, None, ExecuteCircuitResult]:
        """Return itself: the circuit has been executed already."""
        return self
        yield  # makes this a generator, which is what `await` asks for


class ExecuteCircuitResults(list[ExecuteCircuitResult]):
    """The result of `qi.execute_circuits`: a list that can be awaited, too."""

    def __await__(self) -> Generator[None, None, ExecuteCircuitResults]:
        """Return itself: the circuits have been executed already."""
        return self
        yield  # makes this a generator, which is what `await` asks for


def as_value(text: str) -> int | float | str:
    """The value of a parameter: a number if it is written as one."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


class QuantumInterface:
    """The `qi` object that a hybrid file's `execute(qi)` receives.

    `results` holds the counts of each execution so far, in order; `backend_type` describes the backend;
    `parameters` has the values of `--set` and `--sweep` by name, numbers as numbers.
    """

    def __init__(self, transport: CircuitTransport, parameters: Mapping[str, str] | None = None) -> None:
        self.results: list[dict[str, Any]] = []
        self.parameters = {name: as_value(text) for name, text in (parameters or {}).items()}
        self._transport = transport

    @property
    def backend_type(self) -> BackendType:
        """The backend that executes the circuits."""
        return self._transport.backend_type

    def execute_circuit(
        self, circuit: str, number_of_shots: int | None = None, raw_data_enabled: bool | None = False
    ) -> ExecuteCircuitResult:
        """Execute a circuit (cQASM 3.0 or 1.0, or OpenQASM) and wait for its result.

        `number_of_shots` defaults to the backend's default; `raw_data_enabled` requests the bits of each shot.
        Raises CircuitError for an invalid circuit, InvalidInputError for anything that is not a circuit.
        """
        shots = self._shots(number_of_shots)
        outcome = self._transport.execute(as_circuit(circuit), shots, bool(raw_data_enabled))
        return self._record(outcome)

    def execute_circuits(
        self,
        circuits: Iterable[str],
        number_of_shots: int | None = None,
        raw_data_enabled: bool | None = False,
    ) -> ExecuteCircuitResults:
        """Execute several circuits, each with this number of shots, and wait for all; the results are in the
        same order.

        The next circuits are sent while the first are executed, and a backend with several runtimes executes
        them in parallel. If one cannot be executed its error is raised; `results` then holds the counts of
        those before it.
        """
        if isinstance(circuits, str):
            raise InvalidInputError(
                "execute_circuits takes a list of circuits, not one circuit.",
                hint="Use execute_circuit(circuit, number_of_shots), or put the circuit in a list.",
            )
        ready = [as_circuit(circuit) for circuit in circuits]
        outcomes = self._transport.execute_many(ready, self._shots(number_of_shots), bool(raw_data_enabled))
        return ExecuteCircuitResults(self._record(outcome) for outcome in outcomes)

    def __copy__(self) -> Self:
        """Return itself: there is one connection to the backend, and one list of results."""
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        """Return itself, so that objects that hold a `qi` can be copied."""
        return self

    def _shots(self, requested: int | None) -> int:
        shots = self._backend_type.default_number_of_shots if requested is None else requested
        return as_shots(shots, max_shots=self._backend_type.max_number_of_shots)

    @cached_property
    def _backend_type(self) -> BackendType:
        return self._transport.backend_type

    def _record(self, outcome: Outcome) -> ExecuteCircuitResult:
        self.results.append(outcome.counts)
        return ExecuteCircuitResult(
            results=outcome.counts,
            raw_data=outcome.raw_data,
            shots_requested=outcome.shots_requested,
            shots_done=outcome.shots_done,
        )


def as_circuit(circuit: Any) -> str:
    """A circuit from a user's program as cQASM; raises InvalidInputError if it is none."""
    from qslurm.circuits.openqasm import as_cqasm

    if not isinstance(circuit, str):
        raise InvalidInputError(
            f"A circuit must be a string of cQASM, not {type(circuit).__name__}.",
            hint="Convert it first: a Qiskit circuit with qiskit_quantuminspire.cqasm.dumps(circuit).",
        )
    return as_cqasm(circuit, "circuit")


def as_shots(shots: Any, *, max_shots: int | None = None) -> int:
    """A number of shots as an int (numpy's integers, too); raises InvalidInputError unless it is a whole number
    of 1 or more.
    """
    try:
        number = operator.index(shots)
    except TypeError:
        number = 0
    if number < 1 or isinstance(shots, bool):
        raise InvalidInputError(
            f"Invalid number of shots: {shots!r}.", hint="Use a whole number, 1 or more, for example 1024."
        )
    if max_shots is not None and number > max_shots:
        raise InvalidInputError(
            f"{number} shots exceed the backend's limit of {max_shots}.",
            hint=f"Request at most {max_shots}, and execute the circuit several times.",
        )
    return number
