"""A request as it came in at the dispatcher's socket."""

from __future__ import annotations

from dataclasses import dataclass

from qslurm.wire.connection import Address


@dataclass(frozen=True)
class RawRequest:
    """Opened but unread, with the address of its answer."""

    address: Address
    body: bytes
    credential: bytes
