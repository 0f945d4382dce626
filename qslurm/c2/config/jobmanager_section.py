"""Sections `[jobmanager]` and `[metrics]` of c2.toml."""

from __future__ import annotations

import msgspec


class JobManagerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section `[jobmanager]`.

    `listen` is a loopback address, behind a proxy with TLS. Slurm writes a job's log to `<logs>/<user>/<job_id>.out`.
    `hs256_key` is the file of a shared key, for a cluster without a key per center ("": none).

    `compute` is the file of the Compute API's records ("": the API is disabled); its jobs are submitted to `slurmrestd`
    with the center's token.

    `proxy` is where the proxy listens (`ADDRESS:PORT`, "": on another host), for `qslurm doctor`. `url` is where
    clients reach this service (a center's results_url), for the Compute API's login ("": `listen`).

    `feed` is the Unix socket at which the gate reports jobs ("": none, and centers poll slurmrestd).
    """

    listen: str = "127.0.0.1:8042"
    logs: str = "/var/spool/qslurm/logs"
    hs256_key: str = ""
    compute: str = ""
    url: str = ""
    slurmrestd: str = "http://127.0.0.1:6820"
    proxy: str = ""
    feed: str = ""


class MetricsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section `[metrics]`: the address at which the job manager serves /metrics to this host ("": none).

    It is separate from the API's address, which the proxy publishes. All users of this host can read it.
    """

    listen: str = ""
