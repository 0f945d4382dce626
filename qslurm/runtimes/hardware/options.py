"""What an operator may say of a backend that is a machine."""

from __future__ import annotations

from typing import Literal

import msgspec


class HardwareOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table `options` of a backend with `runtime = "hardware"`; docs/runtimes.md explains each."""

    host: str
    command_port: int = 4203
    status_port: int = 4204
    results: Literal["qubits", "bits"] = "qubits"
    heartbeat_s: float = 5.0
    missed_heartbeats: int = 3
    reply_timeout_s: float = 10.0
    initialize_timeout_s: float = 60.0
    execute_timeout_s: float = 300.0
    release_after_s: float = 5.0
    session_limit_s: float = 600.0
    exclusive: bool = True
    interrupt_calibration: bool = False

    def __post_init__(self) -> None:
        if not self.host or set(self.host) & set("/ \t\n"):
            raise ValueError("host must be the name or address of the hardware's control computer")
        for name in ("command_port", "status_port"):
            if not 1 <= getattr(self, name) <= 65535:
                raise ValueError(f"{name} must be between 1 and 65535")
        for name in self.__struct_fields__:
            if name.endswith("_s") and not 0.01 <= getattr(self, name) <= 86400:
                raise ValueError(f"{name} must be between 0.01 and 86400 seconds")
        if self.missed_heartbeats < 1:
            raise ValueError("missed_heartbeats must be 1 or more")
