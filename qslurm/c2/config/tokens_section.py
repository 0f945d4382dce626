"""Section `[tokens]` of c2.toml."""

from __future__ import annotations

import msgspec


class TokensConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Centers' keys, and the lifetimes and renewal of their tokens.

    `keys` is a directory (0700) with one private key per center (`<center>.pem`, 0600), which never leaves C2. `jwks`
    is the file of the public keys, which slurmctld, slurmdbd and the job manager read.

    `socket` is where the renewal service listens ("": tokens are not renewed), for `clients`, the job manager's user. A
    renewed token lives for `renewed_lifetime`. A center may renew its token for `renewable` after an operator issued
    it, unless `qslurm token renewal` sets another time.
    """

    keys: str = "/etc/qslurm/keys"
    jwks: str = "/etc/qslurm/jwks.json"
    max_lifetime: str = "366d"
    socket: str = ""
    clients: tuple[str, ...] = ("qslurm",)
    renewed_lifetime: str = "30d"
    renewable: str = "366d"
