"""The state that an instance keeps from one `up` to the next."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from testbed.layout import HOSTS_OWN, Layout, write
from testbed.ports import complete


@dataclass(frozen=True)
class SavedState:
    """Ports (empty before the first `up`), the database's password, and C2's Slurm (Layout.slurm)."""

    ports: Mapping[str, int] = field(default_factory=dict)
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    slurm: str = HOSTS_OWN


def load(layout: Layout) -> SavedState:
    """The saved state, or a new one."""
    if not layout.saved_state.exists():
        return SavedState()
    found = SavedState(**json.loads(layout.saved_state.read_text()))
    return replace(found, ports=complete(found.ports))


def save(layout: Layout, saved: SavedState) -> None:
    """Save it, readable by root only."""
    write(layout.saved_state, json.dumps(asdict(saved), indent=1) + "\n", mode=0o600)
