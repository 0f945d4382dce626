"""The dispatcher's part of C2's configuration file: sections `[dispatcher]` and `[[backend]]`."""

from __future__ import annotations

from typing import Any

import msgspec


class DispatcherConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the dispatcher listens and keeps its store, whom it trusts, and how long a circuit may take.

    `munge_socket` is munged's ("" for munge's own default). `trusted_users` may admit and finish jobs and set
    backends, besides root and the user that the dispatcher runs as.
    """

    socket: str = "/run/qslurm/dispatcher.sock"
    store: str = "/var/lib/qslurm/store.db"
    munge_socket: str = ""
    trusted_users: list[str] = msgspec.field(default_factory=lambda: ["slurm"])
    execution_limit_s: float = 600.0


class BackendConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One backend: what it can do, how many quantum runtimes (worker processes) serve it, and who is next.

    `runtime` is the name of a plug-in (qslurm.runtimes.plugin), `options` are its own settings.

    `qpu_limit_s` is how many QPU-seconds one job may use (0: as many as it likes; a job may ask for fewer).

    `policy` is fifo, priority or fair. With priority, jobs that couple often get a lead of up to `ageing_s`. With
    fair, centers share QPU-seconds by `weights` (1 for a center not named), and use counts half after each
    `half_life_s`. With `session_idle_s` more than 0, a hybrid job's place is kept for so long after an outcome,
    for `session_max_s` in all while others wait.
    """

    name: str
    runtime: str = "qx"
    qubits: int = 26
    workers: int = 1
    max_shots: int = 1_000_000
    default_shots: int = 1024
    qpu_limit_s: float = 0.0
    options: dict[str, Any] = {}
    policy: str = "fifo"
    ageing_s: float = 300.0
    weights: dict[str, float] = {}
    half_life_s: float = 86_400.0
    session_idle_s: float = 0.0
    session_max_s: float = 60.0
