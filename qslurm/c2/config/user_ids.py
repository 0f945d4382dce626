"""Looks up the users that c2.toml names."""

from __future__ import annotations

import pwd
from collections.abc import Iterable

from qslurm.errors import ConfigError


def uids_of(users: Iterable[str], setting: str) -> frozenset[int]:
    """The uids of these users; ConfigError, which names the setting (`[tokens] clients`), for an unknown user."""
    uids = set()
    for name in users:
        try:
            uids.add(pwd.getpwnam(name).pw_uid)
        except KeyError as error:
            raise ConfigError(f"{setting}: unknown user {name!r}.") from error
    return frozenset(uids)
