"""The classical runtimes' part of C2's configuration file: section `[runtimes]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

AtLeastOne = Annotated[int, Meta(ge=1)]


class RuntimesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a job's Python is started on a classical node, what it may see, and how much it may use.

    `warm` processes wait with the `preload` modules imported; 0 keeps none. `confine` takes the system out of
    the job's reach: "always", so that no job runs where the host can't, or "never". `hide` are folders that jobs must
    not see besides our own; `network` leaves jobs the host's. Without `confine_scripts` batch scripts have the node as
    it is. `step` is the program that each batch script is handed to.

    Limits hold for one job, in MB of 10^6 bytes: `memory_mb` and `processes` at a time, `file_mb` for one file,
    `disk_mb` written to disks in all, `output_mb` printed, `tmp_mb` kept (its folder, /tmp, /var/tmp and /dev/shm).
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
        """Whether a batch script of a user's own is confined as other jobs are."""
        return self.confine == "always" and self.confine_scripts

    @property
    def client(self) -> Path:
        """The program that asks for a warm runtime, compiled; the service puts it beside its socket."""
        return Path(self.socket).with_name("client.pyc")

    @property
    def starter(self) -> Path:
        """The lines of shell that start it, for qslurm-step."""
        return Path(self.socket).with_name("start.sh")
