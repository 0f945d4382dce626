"""Section `[runtimes]` of c2.toml: classical runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

AtLeastOne = Annotated[int, Meta(ge=1)]


class RuntimesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a job's Python is started on a classical node, its confinement and its limits.

    `warm` is the number of processes kept ready with the `preload` modules imported. `confine` is "always" (no job runs
    where the host cannot confine it) or "never". `hide` are further directories hidden from jobs; `network` gives jobs
    the host's network. Without `confine_scripts` batch scripts run unconfined. `step` is the interpreter of batch
    scripts.

    Limits are per job, in MB of 10^6 bytes: `memory_mb` and `processes` at a time, `file_mb` per file, `disk_mb`
    written to disks in all, `output_mb` printed, `tmp_mb` kept (its work directory, /tmp, /var/tmp and /dev/shm).
    """

    socket: str = "/run/qslurm-runtimes/warm.sock"
    warm: Annotated[int, Meta(ge=0, le=256)] = 2
    preload: list[str] = msgspec.field(default_factory=lambda: ["numpy", "scipy.optimize"])
    step: str = "/usr/lib/qslurm/qslurm-step"
    confine: Literal["always", "never"] = "always"
    confine_scripts: bool = True
    network: bool = False
    hide: list[str] = []
    memory_mb: AtLeastOne = 4096
    processes: AtLeastOne = 256
    file_mb: AtLeastOne = 1000
    disk_mb: AtLeastOne = 10_000
    output_mb: AtLeastOne = 64
    tmp_mb: AtLeastOne = 1024

    @property
    def confines_scripts(self) -> bool:
        """Whether users' batch scripts are confined."""
        return self.confine == "always" and self.confine_scripts

    @property
    def client(self) -> Path:
        """The compiled program that requests a warm runtime; the service writes it beside its socket."""
        return Path(self.socket).with_name("client.pyc")

    @property
    def starter(self) -> Path:
        """The shell lines that start it, for qslurm-step."""
        return Path(self.socket).with_name("start.sh")
