"""One lease: the tasks that share a runtime, and when it must end. Decisions on plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.runtimes.lanes.lane_protocols import LaneRuntime
from qslurm.runtimes.lanes.shared_memory import OwnedLane

SLICE_S = 0.05
"""A lease in use lasts at least this long, though others wait: changing hands costs a circuit's time."""

IDLE_S = 0.002
"""A lease idle for this long ends at once when others wait."""


@dataclass
class LentRuntime:
    """A runtime and the lanes of the tasks that share it.

    `members` are the tasks of the lease that it serves now, in their order; empty while it serves none.
    """

    runtime: LaneRuntime
    lanes: dict[int, OwnedLane] = field(default_factory=dict)
    members: tuple[int, ...] = ()
    since: float = 0.0
    stop_asked: float | None = None


def is_due(age_s: float, idle_s: float, *, backend: BackendConfig, others_wait: bool) -> bool:
    """Whether a lease must end because others wait.

    Where jobs have sessions, a lease lasts as long as a session does.
    """
    if not others_wait:
        return False
    if backend.session_idle_s > 0:
        return age_s >= backend.session_max_s or idle_s >= backend.session_idle_s
    return age_s >= SLICE_S or idle_s >= IDLE_S


def may_share(backend: BackendConfig) -> bool:
    """Whether several jobs may have lanes at the same time.

    Several runtimes would be divided unevenly, and a session is a promise not to share.
    """
    return backend.places == 1 and backend.session_idle_s == 0
