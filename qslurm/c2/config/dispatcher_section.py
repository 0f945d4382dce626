"""Sections `[dispatcher]`, `[[backend]]`, `[sessions]` and `[remote]` of c2.toml."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

AtLeastOne = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0, le=100 * 365 * 86400)]


class DispatcherConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section `[dispatcher]`.

    `munge_socket` is munged's ("" for MUNGE's default). `trusted_users`, besides root and the dispatcher's own user,
    may admit and end jobs and set backends' states. `execution_limit_s` is a circuit's time limit. `runtime_user` runs
    this host's quantum runtimes that need no devices and no network ("": the dispatcher's user).
    """

    socket: str = "/run/qslurm/dispatcher.sock"
    store: str = "/var/lib/qslurm/store.db"
    munge_socket: str = ""
    trusted_users: list[str] = msgspec.field(default_factory=lambda: ["slurm"])
    execution_limit_s: Annotated[float, Meta(gt=0)] = 600.0
    runtime_user: str = ""


class BackendConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section `[[backend]]`: a backend, its quantum runtimes and its scheduling.

    `runtime` is the name of a plug-in (qslurm.runtimes.plugin), `options` are its settings. `workers` and `remote` are
    the numbers of circuits that run at a time on this host and on other hosts (section `[remote]`).

    `qpu_limit_s` is the maximum of QPU-seconds of one job (0: unlimited; a job may ask for fewer).

    `policy` is fifo, priority or fair. With priority, jobs that couple often have a lead of at most `ageing_s`. With
    fair, centers share QPU-seconds by `weights` (default 1), and use counts half after each `half_life_s`. With
    `session_idle_s` > 0, a backend is kept for a hybrid job for this time after each result, and for at most
    `session_max_s` in all while other jobs wait.
    """

    name: str
    runtime: str = "qx"
    qubits: AtLeastOne = 26
    workers: Count = 1
    remote: Count = 0
    max_shots: AtLeastOne = 1_000_000
    default_shots: AtLeastOne = 1024
    qpu_limit_s: Seconds = 0.0
    options: dict[str, Any] = {}
    policy: str = "fifo"
    ageing_s: Seconds = 300.0
    weights: dict[str, Annotated[float, Meta(gt=0, le=1e9)]] = {}
    half_life_s: Annotated[float, Meta(ge=1)] = 86_400.0
    session_idle_s: Seconds = 0.0
    session_max_s: Seconds = 60.0

    @property
    def places(self) -> int:
        """Number of circuits that may run at a time."""
        return self.workers + self.remote


class SessionsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section `[sessions]`: loops that run on a center's nodes; disabled without `listen` (`ADDRESS:PORT`).

    `address` is where centers connect ("": `listen`). `key` is the file of the session server's private key; the
    dispatcher creates it, with its certificate beside it (`.crt`), if it does not exist.
    """

    listen: str = ""
    address: str = ""
    key: str = "/var/lib/qslurm/sessions.key"


class RemoteConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section `[remote]`: quantum runtimes on other hosts; disabled without `listen` (`tcp://address:port`).

    `key` is the file of the dispatcher's secret key; `allowed` is a directory of public keys, `<backend>/<name>.pub`.
    A runtime sends a heartbeat every `beat_s`; after `grace_s` without one its circuits go to another runtime.
    """

    listen: str = ""
    key: str = "/etc/qslurm/remote/dispatcher.key"
    allowed: str = "/etc/qslurm/remote/allowed"
    beat_s: Annotated[float, Meta(ge=0.05, le=60)] = 2.0
    grace_s: Annotated[float, Meta(le=86_400)] = 60.0
