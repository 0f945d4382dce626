"""The dispatcher's part of C2's configuration file: sections `[dispatcher]` and `[[backend]]`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

AtLeastOne = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0, le=100 * 365 * 86400)]


class DispatcherConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the dispatcher listens and keeps its store, whom it trusts, and how long a circuit may take.

    `munge_socket` is munged's ("" for munge's own default). `trusted_users` may admit and finish jobs and set
    backends, besides root and the user that the dispatcher runs as. `runtime_user` is the user of those quantum
    runtimes of this host that only compute ("": the dispatcher's own).
    """

    socket: str = "/run/qslurm/dispatcher.sock"
    store: str = "/var/lib/qslurm/store.db"
    munge_socket: str = ""
    trusted_users: list[str] = msgspec.field(default_factory=lambda: ["slurm"])
    execution_limit_s: Annotated[float, Meta(gt=0)] = 600.0
    runtime_user: str = ""


class BackendConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One backend: what it can do, how many quantum runtimes (worker processes) serve it, and who is next.

    `runtime` is the name of a plug-in (qslurm.runtimes.plugin), `options` are its own settings. `remote` is how many
    circuits may run at a time on other hosts (section `[remote]`), besides the `workers` of this one.

    `qpu_limit_s` is how many QPU-seconds one job may use (0: as many as it likes; a job may ask for fewer).

    `policy` is fifo, priority or fair. With priority, jobs that couple often get a lead of up to `ageing_s`. With
    fair, centers share QPU-seconds by `weights` (1 for a center not named), and use counts half after each
    `half_life_s`. With `session_idle_s` more than 0, a hybrid job's place is kept for so long after an outcome,
    for `session_max_s` in all while others wait.
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
        """How many circuits may run at a time."""
        return self.workers + self.remote


class SessionsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section `[sessions]`: loops that run on a center's nodes. Without `listen` (`ADDRESS:PORT`) there are none.

    `address` is what centers are told to connect to ("": `listen`). `key` is the file of the door's secret key; the
    dispatcher makes it when it is not there, and its certificate beside it (`.crt`), which centers are told.
    """

    listen: str = ""
    address: str = ""
    key: str = "/var/lib/qslurm/sessions.key"


class RemoteConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section `[remote]`: quantum runtimes on other hosts. Without `listen` (`tcp://address:port`) there are none.

    `key` is the file of the dispatcher's secret key; `allowed` is a folder of public keys, `<backend>/<name>.pub`.
    A runtime says every `beat_s` that it is alive; what it was given is given to another when nothing has been
    heard of it for `grace_s`.
    """

    listen: str = ""
    key: str = "/etc/qslurm/remote/dispatcher.key"
    allowed: str = "/etc/qslurm/remote/allowed"
    beat_s: Annotated[float, Meta(ge=0.05, le=60)] = 2.0
    grace_s: Annotated[float, Meta(le=86_400)] = 60.0
