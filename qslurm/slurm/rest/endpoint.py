"""Where a service of C2's is and how it is reached: all that a connection to it needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field

from qslurm.tokens.secret import Secret


@dataclass(frozen=True)
class Endpoint:
    """An HTTP service of C2's, slurmrestd or the job manager, and as whom it is asked.

    `url` is `https://host:port`, `token` the center's JWT, which appears in no text, `user` the center's Slurm user on
    C2 (slurmrestd alone wants it). An answer must begin within `timeout_s`: slurmrestd gives up on its slurmctld after
    10 s, so less than that turns answers into doubts. The server is trusted by the certificate authority in `ca_file`
    (else those that requests brings), by the one key in `pinned_key`, or by both. `proxy` is the URL of an HTTP proxy.
    Proxies and `.netrc` of the environment are ignored: a token goes where the configuration says.
    """

    url: str
    token: Secret
    user: str = ""
    timeout_s: float = 30.0
    ca_file: str = ""
    pinned_key: str = ""
    proxy: str = field(default="", repr=False)  # it may hold a password
