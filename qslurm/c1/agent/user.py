"""The user of a request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class User:
    """The user of a request. Admins (root and the agent's own user) may access all jobs."""

    name: str
    uid: int
    admin: bool
