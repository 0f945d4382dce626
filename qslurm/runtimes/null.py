"""The quantum runtime `null`: executes nothing, and returns zeros. It measures the cost of everything but the
target.
"""

from __future__ import annotations

import msgspec

from qslurm.circuits.check import check_circuit
from qslurm.runtimes.interface import Outcome
from qslurm.runtimes.plugin import BackendFacts


class NullOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """No options."""


class NullRuntime:
    """The plug-in `null`: every bit of every shot is 0."""

    Options = NullOptions
    max_workers = 0
    confined = True

    def __init__(self, backend: BackendFacts, _options: NullOptions, /) -> None:
        self.backend_type = backend.backend_type()

    def open(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def execute(self, circuit: str, shots: int, *, seed: int | None, raw_data: bool, file: str) -> Outcome:
        """Return all zeros; raises CircuitError for an invalid circuit."""
        del seed
        key = "0" * check_circuit(circuit, file=file).bits
        raw = [key] * shots if raw_data else None
        return Outcome(
            counts={key: shots}, raw_data=raw, shots_requested=shots, shots_done=shots, seconds=0.0
        )
