"""A client of slurmrestd, independent of quantum computing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qslurm.slurm.rest.submitted import Submitted

if TYPE_CHECKING:
    from qslurm.slurm.rest.client import SlurmrestClient as SlurmrestClient

__all__ = ["SlurmrestClient", "Submitted"]


def __getattr__(name: str) -> object:
    """Import the client lazily: commands that use the center's agent do not need it."""
    if name == "SlurmrestClient":
        from qslurm.slurm.rest.client import SlurmrestClient

        return SlurmrestClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
