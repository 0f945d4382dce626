"""The tokens' part of C2's configuration file: section `[tokens]`."""

from __future__ import annotations

import msgspec


class TokensConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the centers' keys are, how long a token may live, and who gives a fresh one for an old one.

    `keys` is a folder (0700) with one private key per center (`<center>.pem`, 0600) that never leaves C2;
    `jwks` is the file with their public halves that slurmctld, slurmdbd and the job manager read.

    `socket` is where the renewal service listens ("": tokens are not renewed), for `clients`: the user that the job
    manager runs as. A renewed token lives for `renewed_lifetime`; a center may renew for `renewable` after its operator
    has issued a token, unless `qslurm token renewal` says otherwise.
    """

    keys: str = "/etc/qslurm/keys"
    jwks: str = "/etc/qslurm/jwks.json"
    max_lifetime: str = "366d"
    socket: str = ""
    clients: tuple[str, ...] = ("qslurm",)
    renewed_lifetime: str = "30d"
    renewable: str = "366d"
