"""Who asks the agent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class User:
    """Who asks. An admin (root, and the agent's own user) may ask about everybody's jobs."""

    name: str
    uid: int
    admin: bool
