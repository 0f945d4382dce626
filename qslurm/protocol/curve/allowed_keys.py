"""The public keys that an operator allows: files of a folder, `<group>/<name>.pub`. To remove one is to revoke it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from qslurm.errors import ConfigError
from qslurm.protocol.curve.key_files import PUBLIC_SUFFIX, read_public
from qslurm.system.event_log import EventLog

log = EventLog(__name__)


class Holder(msgspec.Struct, frozen=True):
    """Whose a key is: `group` is what it may be used for."""

    group: str
    name: str


class Allowed:
    """What the folder says; `look` reads it again. A file that can't be trusted allows nothing, and is logged once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._complaints: set[str] = set()
        self.keys: dict[bytes, Holder] = {}

    def look(self) -> None:
        """Read the folder."""
        found, complaints = {}, set()
        for path in sorted(self._folder.glob(f"*/*{PUBLIC_SUFFIX}")):
            try:
                found[read_public(path)] = Holder(path.parent.name, path.stem)
            except ConfigError as error:
                complaints.add(str(error))
        for complaint in complaints - self._complaints:
            log.warning("a key is not allowed", why=complaint)
        self._complaints = complaints
        self.keys = found
