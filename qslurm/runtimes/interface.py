"""What classical and quantum runtimes agree on: the `qi` object, what an execution gives, what a backend is.

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
    """What one execution (one circuit, n shots) gave.

    `counts` maps bit strings to how often they were seen: one character for each classical bit of the
    circuit, bits in the order they are declared, the first one rightmost. `raw_data` is one such string for
    each shot, in the order they were run, or None when it wasn't asked for. `seconds` is how long the quantum
    runtime was busy.
    """

    counts: dict[str, int]
    raw_data: list[str] | None = None
    shots_requested: int
    shots_done: int
    seconds: float


class BackendType(msgspec.Struct, frozen=True, kw_only=True):
    """What a hybrid algorithm may know of the backend it runs on; fields as in Quantum Inspire's API.

    `topology` lists the pairs of qubits that two-qubit gates may join (empty: all of them). The whole can
    also be read as a mapping: Quantum Inspire's Qiskit plugin validates `qi.backend_type` as one.
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
        """The fields' values."""
        return [value for _, value in self.items()]

    def get(self, name: str, default: Any = None) -> Any:
        """A field's value, or the default where there is no such field."""
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
        """The backend that executions of this transport run on."""
        ...

    def execute(self, circuit: str, number_of_shots: int, raw_data: bool) -> Outcome:
        """Execute one circuit and wait for its outcome; what can't be executed is a QslurmError."""
        ...

    def execute_many(
        self, circuits: Iterable[str], number_of_shots: int, raw_data: bool
    ) -> Iterator[Outcome]:
        """Execute circuits without waiting for one before the next is sent; their outcomes come in order.

        At the first that can't be executed its QslurmError is raised, and no others are begun.
        """
        ...


class ExecuteCircuitResult(msgspec.Struct, frozen=True, eq=False):
    """What `qi.execute_circuit` returns. It can be awaited, for files whose `execute` is a coroutine.

    Two results are never equal: what is awaited has to be hashable, so that `asyncio.gather` takes it.
    """

    results: dict[str, int]
    raw_data: list[str] | None
    shots_requested: int
    shots_done: int

    def __await__(self) -> Generator[None, None, ExecuteCircuitResult]:
        """Give itself: the circuit has been executed already."""
        return self
        yield  # makes this a generator, which is what `await` asks for


class ExecuteCircuitResults(list[ExecuteCircuitResult]):
    """What `qi.execute_circuits` returns: a list that can be awaited too."""

    def __await__(self) -> Generator[None, None, ExecuteCircuitResults]:
        """Give itself: the circuits have been executed already."""
        return self
        yield  # makes this a generator, which is what `await` asks for


def as_value(text: str) -> int | float | str:
    """A parameter's value: a number if it is written as one."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


class QuantumInterface:
    """The `qi` object that a hybrid file's `execute(qi)` gets.

    `results` holds the counts of each execution so far, in order; `backend_type` describes the backend; `parameters`
    are the values of `--set` and `--sweep` by name, numbers as numbers.
    """

    def __init__(self, transport: CircuitTransport, parameters: Mapping[str, str] | None = None) -> None:
        self.results: list[dict[str, Any]] = []
        self.parameters = {name: as_value(text) for name, text in (parameters or {}).items()}
        self._transport = transport

    @property
    def backend_type(self) -> BackendType:
        """The backend that circuits are executed on."""
        return self._transport.backend_type

    def execute_circuit(
        self, circuit: str, number_of_shots: int | None = None, raw_data_enabled: bool | None = False
    ) -> ExecuteCircuitResult:
        """Execute a circuit (cQASM 3.0 or 1.0, or OpenQASM) and wait for what it measured.

        Without `number_of_shots` the backend's default is taken. `raw_data_enabled` asks for each shot's
        bits. A circuit that isn't valid is a CircuitError, what isn't a circuit at all an InvalidInputError.
        """
        shots = self._shots(number_of_shots)
        outcome = self._transport.execute(as_circuit(circuit), shots, bool(raw_data_enabled))
        return self._note(outcome)

    def execute_circuits(
        self,
        circuits: Iterable[str],
        number_of_shots: int | None = None,
        raw_data_enabled: bool | None = False,
    ) -> ExecuteCircuitResults:
        """Execute several circuits, each with so many shots, and wait for all; the results come in their order.

        This is `execute_circuit` for each of them, only that the next ones are sent while the first are
        executed, and that a backend with several runtimes executes them at once. If one can't be executed its
        error is raised; `results` then holds what those before it gave.
        """
        if isinstance(circuits, str):
            raise InvalidInputError(
                "execute_circuits takes a list of circuits, not one circuit.",
                hint="Use execute_circuit(circuit, number_of_shots), or put the circuit in a list.",
            )
        ready = [as_circuit(circuit) for circuit in circuits]
        outcomes = self._transport.execute_many(ready, self._shots(number_of_shots), bool(raw_data_enabled))
        return ExecuteCircuitResults(self._note(outcome) for outcome in outcomes)

    def __copy__(self) -> Self:
        """Itself: there is one connection to the backend, and one list of results."""
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        """As a copy: what holds a `qi` can be copied, and the copy executes circuits as the original does."""
        return self

    def _shots(self, asked: int | None) -> int:
        shots = self._offered.default_number_of_shots if asked is None else asked
        return as_shots(shots, max_shots=self._offered.max_number_of_shots)

    @cached_property
    def _offered(self) -> BackendType:
        return self._transport.backend_type

    def _note(self, outcome: Outcome) -> ExecuteCircuitResult:
        self.results.append(outcome.counts)
        return ExecuteCircuitResult(
            results=outcome.counts,
            raw_data=outcome.raw_data,
            shots_requested=outcome.shots_requested,
            shots_done=outcome.shots_done,
        )


def as_circuit(circuit: Any) -> str:
    """A circuit of the user's as cQASM; InvalidInputError for what is none."""
    from qslurm.circuits.openqasm import as_cqasm

    if not isinstance(circuit, str):
        raise InvalidInputError(
            f"A circuit must be a string of cQASM, not {type(circuit).__name__}.",
            hint="Convert it first: a Qiskit circuit with qiskit_quantuminspire.cqasm.dumps(circuit).",
        )
    return as_cqasm(circuit, "circuit")


def as_shots(shots: Any, *, max_shots: int | None = None) -> int:
    """A number of shots as an int (numpy's too); all but whole numbers from 1 on are an InvalidInputError."""
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
