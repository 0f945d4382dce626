"""What an operator may say of a backend that is Quantum Inspire."""

from __future__ import annotations

import msgspec


class QuantumInspireOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table `options` of a backend with `runtime = "quantuminspire"`; docs/runtimes.md explains each."""

    credentials: str
    backend_type: str
    project: str = "qslurm"
    request_timeout_s: float = 30.0
    execute_timeout_s: float = 3600.0
    status_every_s: float = 10.0
    poll_s: float = 2.0

    def __post_init__(self) -> None:
        if not self.credentials.startswith("/"):
            raise ValueError("credentials must be the path of a file, from / on")
        for name, longest in (("backend_type", 32), ("project", 255)):
            if not 1 <= len(getattr(self, name)) <= longest:
                raise ValueError(f"{name} must be a name of at most {longest} characters")
        for name in self.__struct_fields__:
            if name.endswith("_s") and not 0.01 <= getattr(self, name) <= 86400:
                raise ValueError(f"{name} must be between 0.01 and 86400 seconds")
