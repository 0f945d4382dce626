"""A bridge between two Slurm clusters: an HPC center's and a quantum platform's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qslurm.api.center import Center as Center
    from qslurm.api.job import Job as Job
    from qslurm.api.result import Result as Result
    from qslurm.api.session import Session as Session

__version__ = "0.1.0"

__all__ = ["Center", "Job", "Result", "Session", "__version__"]

_HOMES = {
    "Center": "qslurm.api.center",
    "Job": "qslurm.api.job",
    "Result": "qslurm.api.result",
    "Session": "qslurm.api.session",
}


def __getattr__(name: str) -> object:
    """Import what is asked for, and only that: most uses of this package are commands that must start fast."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
