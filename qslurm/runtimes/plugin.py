"""The point where a quantum target is plugged in: what a quantum runtime is, and how one is found by name.

A plug-in is a class (or any callable with an attribute `Options`) that an installed distribution names in the
entry point group `qslurm.runtimes`; docs/runtimes.md shows one. `runtime = "name"` in a `[[backend]]` of C2's
configuration chooses it, and the table `options` there is read into the plug-in's own struct.
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

BUILT_IN = {
    "hardware": "qslurm.runtimes.hardware.hardware_runtime:HardwareRuntime",
    "null": "qslurm.runtimes.null:NullRuntime",
    "quantuminspire": "qslurm.runtimes.quantum_inspire.quantum_inspire_runtime:QuantumInspireRuntime",
    "qx": "qslurm.runtimes.qx:QxRuntime",
}
"""Those of this package."""


class BackendFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the platform's configuration says of the backend that a quantum runtime serves.

    `execution_limit_s` is the time after which the dispatcher kills the process that executes a circuit.
    """

    name: str
    qubits: int
    max_shots: int
    default_shots: int
    execution_limit_s: float = float("inf")


class QuantumRuntime(Protocol):
    """Executes circuits, one at a time, in a process of its own that the dispatcher may kill at any moment.

    All methods are called by one thread. `open` is called once, before anything else; what it raises is said
    to operators, and the process is started again later. What has to be undone when the process is killed is
    for the plug-in to see to: `close` is called only when the process ends by itself.
    """

    @property
    def backend_type(self) -> BackendType:
        """What hybrid jobs are told of the backend, as far as it is known by now."""
        ...

    def open(self) -> None:
        """Get ready to execute."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...

    def execute(self, circuit: str, shots: int, *, seed: int | None, raw_data: bool, file: str) -> Outcome:
        """Execute a circuit of valid cQASM 3.0, which `file` is the user's name for.

        Counts and raw data are by classical bit (`CircuitFacts.readout` helps where a target gives qubits).
        The seed is for targets that can repeat themselves. A circuit that can't be executed is a QslurmError
        with the reason; TryLaterError gives the circuit back to the queue.
        """
        ...


@runtime_checkable
class Attended(Protocol):
    """What a quantum runtime also has when its target can be away: it calibrates, or is switched off."""

    def attend(self) -> Health:
        """Look after the target for a moment, without waiting, and say how it is.

        Called several times a second while there is no circuit to execute, and after each circuit. While the
        answer is that nothing can be executed, no circuit is given, and the backend's partition is held.
        """
        ...


class Plugin(Protocol):
    """What an entry point names."""

    Options: type[msgspec.Struct]
    """The plug-in's own settings: a struct with `forbid_unknown_fields`. Checks that msgspec can't express go
    into its `__post_init__` as ValueError."""

    max_workers: int
    """How many processes may serve one backend: 1 for a device that can be held by one only, 0 for any.

    A plug-in that has `confined = True` besides needs nothing of the host after `open` but to read files: its process
    can't start programs, write files or open connections from then on (qslurm.runtimes.quantum.seccomp).
    """

    def __call__(self, backend: BackendFacts, options: Any, /) -> QuantumRuntime:
        """Make a runtime; nothing is opened yet."""
        ...


def find_plugin(name: str) -> Plugin:
    """The plug-in with that name; ConfigError names those that exist, or says why it can't be loaded."""
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
    """The names that `runtime` may have here."""
    from importlib.metadata import entry_points

    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})


def read_options(plugin: Plugin, options: dict[str, Any], where: str) -> msgspec.Struct:
    """The table `options` as the plug-in's struct; ConfigError names what is wrong, and `where` it stands."""
    return checked_struct(options, plugin.Options, where, "options.")


def _checked(name: str, plugin: Any) -> Plugin:
    kind = getattr(plugin, "Options", None)
    if not callable(plugin) or not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
        raise ConfigError(
            f"The quantum runtime {name!r} is not a valid plug-in: its Options must be a msgspec.Struct."
        )
    return cast(Plugin, plugin)
