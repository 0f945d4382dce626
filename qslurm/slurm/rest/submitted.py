"""C2's response to an accepted job."""

from __future__ import annotations

import msgspec


class Submitted(msgspec.Struct, frozen=True):
    """An accepted job. `warnings` are Slurm's, `message` is from C2's submit plugin."""

    job_id: int
    warnings: list[str] = []
    message: str = ""
