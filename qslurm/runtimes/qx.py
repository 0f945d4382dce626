"""Executes circuits with the QX emulator, in this process.

QX holds Python's lock while it works and can end its process: call this only in a process that may be killed.
"""

from __future__ import annotations

from qslurm.runtimes.interface import Outcome


def simulate(
    circuit: str, shots: int, *, seed: int | None = None, raw_data: bool = False, file: str = "circuit"
) -> Outcome:
    """Execute a circuit; one that isn't valid is a CircuitError with line and column.

    With a seed the outcome is the same every time. Raw data costs a run of QX for each shot.
    """
    raise NotImplementedError
