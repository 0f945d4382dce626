"""Tables of `qslurm dispatcher status`, in the style of squeue and sinfo."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qslurm.cli import streams
from qslurm.cli.operator_commands import print_backends
from qslurm.cli.output import note, print_facts, print_table
from qslurm.cli.time_format import ago, clock_time, duration

if TYPE_CHECKING:
    from qslurm.protocol.messages import HoldStatus, Status
    from qslurm.runtimes.classical.warm.warm_status import WarmStatus


def print_status(status: Status, warm: WarmStatus | None) -> None:
    """Print the status table by table; empty tables are omitted."""
    state = "ready" if status.ready else f"not ready: {status.reason}"
    facts = {
        "dispatcher": f"{state}, version {status.version}, process {status.pid}, up {ago(status.started)}",
        "jobs": f"{status.open_jobs} open",
    }
    if warm is not None:
        facts["warm runtimes"] = (
            f"{warm.ready} of {warm.wanted} ready on this host, {warm.given} used by jobs, {warm.cold} cold starts"
        )
    print_facts(facts)
    streams.write()
    print_backends(status.backends)
    _print_jobs(status)
    _print_holds(status)
    _print_queue(status)
    if status.scope == "own":
        note("qslurm: Only your own jobs are listed; the counts include all jobs.")
    elif status.scope == "none":
        note(f"qslurm: No jobs are listed: {status.scope_reason.rstrip('.')}.")


def _print_jobs(status: Status) -> None:
    if not status.tasks:
        return
    streams.write()
    print_table(
        ("JOBID", "CENTER", "BACKEND", "KIND", "STATE", "TIME", "DONE", "EXECUTING", "QUEUED"),
        [
            (
                t.job_id,
                t.center,
                t.backend,
                t.kind,
                t.state,
                ago(t.since),
                t.executions,
                t.executing,
                t.queued,
            )
            for t in status.tasks
        ],
    )


def _print_holds(status: Status) -> None:
    if not status.holds:
        return
    now = time.time()
    streams.write()
    print_table(
        ("BACKEND", "HELD_BY", "CENTER", "AS", "TIME", "IDLE", "UNTIL"),
        [
            (h.backend, h.job_id, h.center, h.by, ago(h.since, now), _idle(h), clock_time(h.until) or "others wait")
            for h in status.holds
        ],
    )  # fmt: skip


def _idle(hold: HoldStatus) -> str:
    if hold.idle_s is None:
        return "-"
    return f"{hold.idle_s * 1000:.0f} ms" if hold.idle_s < 1 else duration(hold.idle_s)


def _print_queue(status: Status) -> None:
    if status.queue:
        streams.write()
        print_table(
            ("BACKEND", "POSITION", "JOBID", "CENTER", "CIRCUIT", "SHOTS", "TIME", "REASON"),
            [
                (w.backend, w.position, w.job_id, w.center, w.seq, w.shots, ago(w.since), w.reason)
                for w in status.queue
            ],
        )
    for backend, left in status.queue_left.items():
        if left:
            streams.write(f"{left} more queued for {backend}")
