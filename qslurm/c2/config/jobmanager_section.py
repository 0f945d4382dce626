"""The job manager's part of C2's configuration file: sections `[jobmanager]` and `[metrics]`."""

from __future__ import annotations

import msgspec


class JobManagerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the job manager listens (loopback: a proxy with TLS stands before it), and where jobs' logs are.

    Slurm writes a job's log to `<logs>/<user>/<job_id>.out`. `hs256_key` names a file with a shared key, for a
    cluster whose tokens are not signed by a key per center ("" for none).

    `compute` is a file for what clients of Quantum Inspire's Compute API put here ("": that API is not served); their
    jobs are submitted to `slurmrestd` with the center's token.

    `proxy` is where the proxy with TLS listens before both (`ADDRESS:PORT`, "": elsewhere): `qslurm doctor` asks it.

    `url` is where clients reach this service (a center's results_url): the Compute API names it to those who would log
    in ("": `listen`, which only clients on this host reach).

    `feed` is a Unix socket at which the gate tells how all jobs are ("": nowhere; centers ask slurmrestd).
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
    """Section `[metrics]`: where the job manager answers /metrics to a Prometheus on this host ("": nowhere).

    An address of its own, because the proxy with TLS stands before the other one; who may log in here may read it.
    """

    listen: str = ""
