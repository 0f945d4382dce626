"""What an answer about the state of things has in it: who holds a backend, and who waits for one. Plain data.

Times are Unix seconds, durations seconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class HoldStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A job that holds a backend: a `session` keeps its place between two circuits, a `lane` is a runtime of its own.

    `idle_s` is None while something of it is under way. `until` is when the hold ends, if nothing changes; None: it
    lasts as long as the job uses it and nobody else waits.
    """

    backend: str
    job_id: int
    center: str
    by: Literal["session", "lane"]
    since: float
    idle_s: float | None = None
    until: float | None = None


class WaitingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that waits: the job's `seq`-th, since when, at which place from 1, and for what, in words."""

    backend: str
    position: int
    job_id: int
    restart: int
    center: str
    seq: int
    shots: int
    since: float
    reason: str
