"""What C2 says when it takes a job."""

from __future__ import annotations

import msgspec


class Submitted(msgspec.Struct, frozen=True):
    """A job that C2 accepted. `warnings` are Slurm's, `message` is what C2's submit plugin had to say."""

    job_id: int
    warnings: list[str] = []
    message: str = ""
