"""What operators say."""

from __future__ import annotations

from qslurm.protocol.messages.message import Message, Number


class SetBackend(Message, frozen=True):
    """An operator takes a backend out of service, or back in."""

    backend: str
    online: bool
    reason: str = ""


class Reserve(Message, frozen=True):
    """An operator reserves a backend from `begins` until `ends`, for a center or for a job (C2's job id)."""

    backend: str
    begins: float
    ends: float
    center: str = ""
    job_id: Number = 0
    reason: str = ""


class Reserved(Message, frozen=True):
    """It is reserved, under this number; `note` is what its maker may want to know."""

    reservation: Number
    note: str = ""


class Release(Message, frozen=True):
    """An operator takes a reservation back."""

    reservation: Number
