"""The options of a backend that is a machine."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(ge=0.01, le=86400)]


class HardwareOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table `options` of a backend with `runtime = "hardware"`; docs/runtimes.md explains each."""

    host: str
    command_port: Port = 4203
    status_port: Port = 4204
    results: Literal["qubits", "bits"] = "qubits"
    heartbeat_s: Seconds = 5.0
    missed_heartbeats: Annotated[int, Meta(ge=1)] = 3
    reply_timeout_s: Seconds = 10.0
    initialize_timeout_s: Seconds = 60.0
    execute_timeout_s: Seconds = 300.0
    release_after_s: Seconds = 5.0
    session_limit_s: Seconds = 600.0
    exclusive: bool = True
    interrupt_calibration: bool = False

    def __post_init__(self) -> None:
        if not self.host or set(self.host) & set("/ \t\n"):
            raise ValueError("host must be the name or address of the hardware's control computer")
