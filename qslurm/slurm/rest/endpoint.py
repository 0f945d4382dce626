"""The address, credentials and TLS settings of a service on C2."""

from __future__ import annotations

from dataclasses import dataclass, field

from qslurm.tokens.secret import Secret


@dataclass(frozen=True)
class Endpoint:
    """An HTTP service of C2: slurmrestd or the job manager.

    `url` is `https://host:port`, `token` the center's JWT, `user` the center's Slurm user on C2 (for slurmrestd only).
    A response must begin within `timeout_s`; keep that above 10 s, slurmrestd's time-out for slurmctld. The server is
    verified by the certificate authorities in `ca_file` (default: those of requests), by the keys in `pinned_key`, or
    by both. `proxy` is the URL of an HTTP proxy; proxies and `.netrc` of the environment are ignored.
    """

    url: str
    token: Secret
    user: str = ""
    timeout_s: float = 30.0
    ca_file: str = ""
    pinned_key: str = ""
    proxy: str = field(default="", repr=False)  # it may hold a password
