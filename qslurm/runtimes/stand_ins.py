"""What files for Quantum Inspire import for their annotations, where the platform's packages are missing.

`from qi2_shared.hybrid.quantum_interface import QuantumInterface` stands in most of them and says nothing
but the type of `qi`. An environment that has the real package uses the real one.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from qslurm.runtimes.interface import ExecuteCircuitResult, QuantumInterface

_NAMES = ("qi2_shared", "qi2_shared.hybrid", "qi2_shared.hybrid.quantum_interface")


@contextmanager
def stand_ins() -> Iterator[None]:
    """Make the names importable while a hybrid file runs, unless the real package is installed."""
    if _NAMES[0] in sys.modules or importlib.util.find_spec(_NAMES[0]) is not None:
        yield
        return
    modules = {name: ModuleType(name, __doc__) for name in _NAMES}
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
        module.__path__ = []
    last = modules[_NAMES[-1]]
    last.__dict__.update(QuantumInterface=QuantumInterface, ExecuteCircuitResult=ExecuteCircuitResult)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)
