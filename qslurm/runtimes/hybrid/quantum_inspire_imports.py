"""Stub modules for the imports of files for Quantum Inspire, where the platform's packages are missing.

Most files have `from qi2_shared.hybrid.quantum_interface import QuantumInterface`, only for the type of `qi`.
Older ones import from `quantuminspire.sdk` and `quantuminspire.util`, which the package `quantuminspire` had
before version 4. Installed modules take precedence.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, TracebackType

from qslurm.errors import InvalidInputError
from qslurm.runtimes.interface import ExecuteCircuitResult, QuantumInterface


class SdkCircuit:
    """Like `quantuminspire.sdk.models.circuit.Circuit`: `ir` builds a circuit with OpenSquirrel, `content` is
    its text.
    """

    def __init__(
        self, platform_name: str, program_name: str, number_of_qubits: int, bit_registers: int | None = None
    ) -> None:
        from opensquirrel import CircuitBuilder

        self.platform_name = platform_name
        self.program_name = program_name
        bits = number_of_qubits if bit_registers is None else bit_registers
        self.ir = CircuitBuilder(qubit_register_size=number_of_qubits, bit_register_size=bits)
        self.content = ""

    def initialize(self) -> None:
        """Do nothing."""

    def finalize(self) -> None:
        """Write the circuit into `content`."""
        self.content = str(self.ir.to_circuit())

    def __enter__(self) -> SdkCircuit:
        self.initialize()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finalize()


class LocalBackend:
    """Like the class that old files import for debugging; it cannot be used."""

    def __init__(self) -> None:
        raise InvalidInputError(
            "LocalBackend is not available in qslurm.", hint="Run the file with qslurm run."
        )


_INTERFACE: dict[str, object] = {
    "QuantumInterface": QuantumInterface,
    "ExecuteCircuitResult": ExecuteCircuitResult,
}
_CONTENTS: dict[str, dict[str, object]] = {
    "qi2_shared.hybrid.quantum_interface": _INTERFACE,
    "quantuminspire.sdk.quantum_interface": _INTERFACE,
    "quantuminspire.sdk.models.circuit": {"Circuit": SdkCircuit},
    "quantuminspire.util.api.quantum_interface": _INTERFACE,
    "quantuminspire.util.api.local_backend": {"LocalBackend": LocalBackend},
}


@contextmanager
def stub_modules() -> Iterator[None]:
    """Make the names importable while a hybrid file runs, unless the real modules are installed."""
    made: dict[str, ModuleType] = {}
    for name, contents in _CONTENTS.items():
        _make(name, made)
        if name in made:
            made[name].__dict__.update(contents)
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            sys.modules.pop(name, None)
            parent, _, child = name.rpartition(".")
            vars(sys.modules.get(parent, ModuleType(parent))).pop(
                child, None
            )  # leave a real package unchanged


def _make(name: str, made: dict[str, ModuleType]) -> None:
    """A module with this name and, if missing too, its parents."""
    parent, _, child = name.rpartition(".")
    if parent:
        _make(parent, made)
    if name in made or (parent not in made and _exists(name)):
        return
    module = made[name] = ModuleType(name, __doc__)
    module.__path__ = []
    package = made.get(parent) or sys.modules.get(parent)
    if package is not None:
        setattr(package, child, module)


def _exists(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None
