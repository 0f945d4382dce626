"""The public keys that may connect: files `<group>/<name>.pub` in a folder. Removing a file revokes its key."""

from __future__ import annotations

from pathlib import Path

import msgspec

from qslurm.errors import ConfigError
from qslurm.protocol.curve.key_files import PUBLIC_SUFFIX, read_public
from qslurm.system.event_log import EventLog

log = EventLog(__name__)


class KeyOwner(msgspec.Struct, frozen=True):
    """The owner of a key. `group` says what the key may be used for."""

    group: str
    name: str


class AllowedKeys:
    """The keys in a folder. Unsafe or invalid files are ignored, and logged once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._warnings: set[str] = set()
        self.keys: dict[bytes, KeyOwner] = {}

    def reload(self) -> None:
        """Read the folder again."""
        keys, warnings = {}, set()
        for path in sorted(self._folder.glob(f"*/*{PUBLIC_SUFFIX}")):
            try:
                keys[read_public(path)] = KeyOwner(path.parent.name, path.stem)
            except ConfigError as error:
                warnings.add(str(error))
        for warning in warnings - self._warnings:
            log.warning("key ignored", why=warning)
        self._warnings = warnings
        self.keys = keys
