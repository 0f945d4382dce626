"""c2.toml, read by all services and hooks on C2. Imports little: hooks read it at every start of a job."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from qslurm.c2.config.dispatcher_section import BackendConfig, DispatcherConfig, RemoteConfig, SessionsConfig
from qslurm.c2.config.jobmanager_section import JobManagerConfig, MetricsConfig
from qslurm.c2.config.runtimes_section import RuntimesConfig
from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.errors import ConfigError
from qslurm.payload.envelope import Kind
from qslurm.system.checked_struct import checked_struct

DEFAULT_PATH = "/etc/qslurm/c2.toml"
PATH_VARIABLE = "QSLURM_C2_CONFIG"
PARTITION_PREFIX = "p_"
SAFE_KINDS: list[Kind] = ["circuit", "hybrid", "session"]
"""The kinds of jobs that centers may send by default: not batch scripts, which Slurm starts."""


class SlurmConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section `[slurm]`.

    `conf` is SLURM_CONF of Slurm's commands, `bin` their directory ("" for the usual ones). A job's center is its Slurm
    user's name without `user_prefix`.
    """

    conf: str = "/etc/slurm/slurm.conf"
    bin: str = ""
    user_prefix: str = "center_"


class GateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section `[gate]`: `state` is a directory of SlurmUser's, `interval_s` the time between two checks.

    `admit_timeout_s` is how long a hook waits for the dispatcher; PrologEpilogTimeout must be 10 s longer. A running
    job that slurmctld has not known for `forgotten_s` counts as lost.
    """

    state: str = "/var/lib/qslurm/gate"
    interval_s: Annotated[float, Meta(ge=0.05, le=60)] = 1.0
    admit_timeout_s: Annotated[float, Meta(ge=0.05, le=60)] = 5.0
    forgotten_s: Annotated[float, Meta(ge=1, le=30 * 86400)] = 600.0


class C2Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    slurm: SlurmConfig = SlurmConfig()
    dispatcher: DispatcherConfig = DispatcherConfig()
    backend: list[BackendConfig] = []
    gate: GateConfig = GateConfig()
    jobmanager: JobManagerConfig = JobManagerConfig()
    metrics: MetricsConfig = MetricsConfig()
    runtimes: RuntimesConfig = RuntimesConfig()
    remote: RemoteConfig = RemoteConfig()
    sessions: SessionsConfig = SessionsConfig()
    tokens: TokensConfig = TokensConfig()
    kinds: dict[str, list[Kind]] = {}

    def kinds_of(self, center: str) -> list[Kind]:
        """The kinds of jobs that a center may send: its line in `[kinds]`, else that of `default`."""
        return self.kinds.get(center, self.kinds.get("default", SAFE_KINDS))


def load_c2_config(path: str | Path | None = None) -> C2Config:
    """Read the file: `path`, else $QSLURM_C2_CONFIG, else /etc/qslurm/c2.toml. ConfigError if missing or invalid."""
    file = Path(path or os.environ.get(PATH_VARIABLE) or DEFAULT_PATH)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"C2 configuration {file} not found.",
            hint=f"Use --config FILE or set {PATH_VARIABLE}. Run this command on C2's head node.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the C2 configuration {file}: {error}.") from error
    return parse_c2_config(text, str(file))


def parse_c2_config(text: str, name: str = "c2.toml") -> C2Config:
    """Parse the file's text; ConfigError names the key and, for a typo, the nearest valid one."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not valid TOML: {error}.") from error
    if document.get("runtimes", {}).get("confine") == "auto":
        raise ConfigError(
            f'{name}: runtimes.confine = "auto" is no longer supported.',
            hint='Use "always" (`qslurm doctor` shows what a host lacks for it). "never" leaves jobs the whole node.',
        )
    config = checked_struct(document, C2Config, name)
    _refuse_duplicates(config, name)
    return config


def partition_of(backend: str) -> str:
    """A backend's partition."""
    return PARTITION_PREFIX + backend


def backend_of(partition: str) -> str:
    """A partition's backend; "" for a partition without one."""
    return partition.removeprefix(PARTITION_PREFIX) if partition.startswith(PARTITION_PREFIX) else ""


def _refuse_duplicates(config: C2Config, name: str) -> None:
    names = [backend.name for backend in config.backend]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise ConfigError(f"{name}: duplicate backend {twice!r}.")
