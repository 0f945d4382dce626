"""The tokens' part of C2's configuration file: section `[tokens]`."""

from __future__ import annotations

import msgspec


class TokensConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the centers' keys are, and how long a token may live.

    `keys` is a folder (0700) with one private key per center (`<center>.pem`, 0600) that never leaves C2;
    `jwks` is the file with their public halves that slurmctld, slurmdbd and the job manager read.
    """

    keys: str = "/etc/qslurm/keys"
    jwks: str = "/etc/qslurm/jwks.json"
    max_lifetime: str = "366d"
