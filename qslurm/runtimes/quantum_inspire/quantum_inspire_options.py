"""The options of a backend at Quantum Inspire."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(ge=0.01, le=86400)]


class QuantumInspireOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table `options` of a backend with `runtime = "quantuminspire"`; docs/runtimes.md explains each."""

    credentials: str
    backend_type: Annotated[str, Meta(min_length=1, max_length=32)]
    project: Annotated[str, Meta(min_length=1, max_length=255)] = "qslurm"
    request_timeout_s: Seconds = 30.0
    execute_timeout_s: Seconds = 3600.0
    status_every_s: Seconds = 10.0
    poll_s: Seconds = 2.0

    def __post_init__(self) -> None:
        if not self.credentials.startswith("/"):
            raise ValueError("credentials must be an absolute path")
