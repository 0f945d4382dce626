"""Requests of operators."""

from __future__ import annotations

from qslurm.protocol.messages.message import Message, Number


class SetBackend(Message, frozen=True):
    """Take a backend out of service, or back into service."""

    backend: str
    online: bool
    reason: str = ""


class Reserve(Message, frozen=True):
    """Reserve a backend from `begins` until `ends` for a center or for a job (C2's job id)."""

    backend: str
    begins: float
    ends: float
    center: str = ""
    job_id: Number = 0
    reason: str = ""


class Reserved(Message, frozen=True):
    """The reply to Reserve: the reservation's number, and a note for the operator."""

    reservation: Number
    note: str = ""


class Release(Message, frozen=True):
    """Delete a reservation."""

    reservation: Number
