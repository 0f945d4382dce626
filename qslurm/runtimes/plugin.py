"""The interface of quantum runtimes, and how a plug-in is found by name.

A plug-in is a class (or any callable with an attribute `Options`) that an installed distribution names in the
entry point group `qslurm.runtimes`; docs/runtimes.md has an example. `runtime = "name"` in a `[[backend]]` of
C2's configuration selects it, and the table `options` there is read into the plug-in's own struct.
"""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable

import msgspec

from qslurm.errors import ConfigError
from qslurm.runtimes.health import Health
from qslurm.runtimes.interface import BackendType, Outcome
from qslurm.system.checked_struct import checked_struct
from qslurm.system.plugins import load_plugin

GROUP = "qslurm.runtimes"

_SHARE_OF_LIMIT = 0.8

BUILT_IN = {
    "hardware": "qslurm.runtimes.hardware.hardware_runtime:HardwareRuntime",
    "null": "qslurm.runtimes.null:NullRuntime",
    "quantuminspire": "qslurm.runtimes.quantum_inspire.quantum_inspire_runtime:QuantumInspireRuntime",
    "qx": "qslurm.runtimes.qx:QxRuntime",
    "stabilizer": "qslurm.runtimes.stabilizer.runtime:StabilizerRuntime",
    "statevector": "qslurm.runtimes.statevector.runtime:StatevectorRuntime",
}
"""The plug-ins of this package."""


class BackendFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says about the backend that a quantum runtime serves.

    The dispatcher kills the process if one circuit takes longer than `execution_limit_s`.
    """

    name: str
    qubits: int
    max_shots: int
    default_shots: int
    execution_limit_s: float = float("inf")

    def backend_type(self, **facts: Any) -> BackendType:
        """The backend as configured, with what the plug-in knows about its target."""
        return BackendType(
            name=self.name,
            identifier=self.name,
            nqubits=self.qubits,
            max_number_of_shots=self.max_shots,
            default_number_of_shots=self.default_shots,
            **facts,
        )

    def own_limit_s(self, timeout_s: float) -> float:
        """The time-out of one circuit, shorter than the limit at which the dispatcher kills the process."""
        return min(timeout_s, self.execution_limit_s * _SHARE_OF_LIMIT)


class QuantumRuntime(Protocol):
    """Executes circuits, one at a time, in a process of its own that the dispatcher may kill at any moment.

    All methods are called by one thread. `open` is called once, before anything else; an error it raises is
    reported to operators, and the process is started again later. `close` is called only when the process ends
    by itself: a plug-in that must clean up after a kill needs its own guard.
    """

    @property
    def backend_type(self) -> BackendType:
        """The backend as hybrid jobs see it, as far as it is known by now."""
        ...

    def open(self) -> None:
        """Get ready to execute."""
        ...

    def close(self) -> None:
        """Release what is held."""
        ...

    def execute(self, circuit: str, shots: int, *, seed: int | None, raw_data: bool, file: str) -> Outcome:
        """Execute a circuit of valid cQASM 3.0; `file` is the user's name for it.

        Counts and raw data are by classical bit (`CircuitFacts.readout` maps qubits to bits). `seed` is for
        targets that can repeat themselves. Raise QslurmError with the reason if the circuit cannot be executed,
        TryLaterError to return it to the queue.
        """
        ...


@runtime_checkable
class Attended(Protocol):
    """The additional method of a quantum runtime whose target can be unavailable: it calibrates, or is switched
    off.
    """

    def attend(self) -> Health:
        """Maintain the target without waiting, and return its health.

        Called several times a second while there is no circuit to execute, and after each circuit. While the
        health is not ready, no circuit is sent and the backend's partition is held.
        """
        ...


class Plugin(Protocol):
    """What an entry point names."""

    Options: type[msgspec.Struct]
    """The plug-in's own settings: a struct with `forbid_unknown_fields`. Checks that msgspec cannot express
    raise ValueError in its `__post_init__`.
    """

    max_workers: int
    """How many processes may serve one backend: 1 for a device that one process can hold, 0 for any number.

    A plug-in with `confined = True` only computes after `open`: its process can read files, but cannot start
    programs, write files or open connections from then on (qslurm.runtimes.quantum.seccomp).
    """

    def __call__(self, backend: BackendFacts, options: Any, /) -> QuantumRuntime:
        """Make a runtime; it opens nothing yet."""
        ...


def find_plugin(name: str) -> Plugin:
    """The plug-in with this name; ConfigError lists the available ones, or says why it cannot be loaded."""
    try:
        plugin = load_plugin(GROUP, name, BUILT_IN)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"Cannot load the quantum runtime {name!r}: {error}.") from error
    if plugin is None:
        raise ConfigError(
            f"Unknown quantum runtime {name!r}. Available: {', '.join(plugin_names())}.",
            hint=f"Install the package that provides it (entry point group {GROUP}) where the dispatcher runs.",
        )
    return _checked(name, plugin)


def plugin_names() -> list[str]:
    """The names that `runtime` may have on this host."""
    from importlib.metadata import entry_points

    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})


def read_options(plugin: Plugin, options: dict[str, Any], where: str) -> msgspec.Struct:
    """The table `options` as the plug-in's struct; ConfigError says what is invalid, and `where`."""
    return checked_struct(options, plugin.Options, where, "options.")


def _checked(name: str, plugin: Any) -> Plugin:
    kind = getattr(plugin, "Options", None)
    if not callable(plugin) or not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
        raise ConfigError(
            f"The quantum runtime {name!r} is not a valid plug-in: its Options must be a msgspec.Struct."
        )
    return cast(Plugin, plugin)
