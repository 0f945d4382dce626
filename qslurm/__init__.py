"""A bridge between two Slurm clusters: an HPC center's and a quantum platform's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qslurm.c1.api.center import Center as Center
    from qslurm.c1.api.job import Job as Job
    from qslurm.c1.api.result import Result as Result
    from qslurm.c1.api.session import Session as Session

__version__ = "0.1.0"

__all__ = ["Center", "Job", "Result", "Session", "__version__"]

_MODULES = {
    "Center": "qslurm.c1.api.center",
    "Job": "qslurm.c1.api.job",
    "Result": "qslurm.c1.api.result",
    "Session": "qslurm.c1.api.session",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use: most uses of this package are commands that must start fast."""
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
