"""The gate: sets the states of C2's partitions, and completes what hooks could not do.

It runs beside slurmctld as SlurmUser. slurmctld loses a partition's state when it restarts; the gate checks every
second and sets it again. It outlives slurmctld, the dispatcher and damaged files: an error is logged once, and the
action is repeated at the next check.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Literal

from qslurm.c2.config.file import C2Config, backend_of, partition_of
from qslurm.c2.gate.change_detector import ChangeWatcher
from qslurm.c2.gate.heartbeat import Heartbeat
from qslurm.c2.gate.rules import (
    SECOND_LAUNCH,
    Ages,
    NodeResumes,
    OverdueTasks,
    StuckJobs,
    delivery,
    is_named,
    is_stuck,
    out_of_service,
    release,
    target,
)
from qslurm.c2.hooks.spool import Spool
from qslurm.c2.slurm_commands import LAUNCH_FAILED, SlurmCommands
from qslurm.errors import QslurmError
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.messages import MOST_ENDS, Ends, Finish, GetEnds, GetStatus, KnownEnd, Status
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.job_table import JobTable

STATUS_TIMEOUT_S = 2.0
"""Seconds without an answer after which partitions close."""

HEARTBEAT = "heartbeat"
"""The part of a check that precedes each other part."""

ROTATE_EVERY_S = 3600.0
NODES_EVERY_S = 5.0
RELEASES = 3
"""How often a job is released that slurmctld holds after a failed launch; then it is left to an operator."""


class Gate:
    """The checks. `say` logs an event with its fields whenever something changes.

    `queue` returns C2's jobs if the feeder has just read them, which saves a squeue.
    """

    def __init__(
        self,
        config: C2Config,
        client: DispatcherClient,
        say: Callable[..., None],
        queue: Callable[[], JobTable | None] = lambda: None,
    ) -> None:
        self._queue = queue
        self._queue_version = -1
        self._partitions = [partition_of(backend.name) for backend in config.backend]
        self._client = client
        self._slurm = SlurmCommands(config.slurm)
        self._spool = Spool(config.gate.state)
        self._overdue = OverdueTasks(config.gate.forgotten_s)
        self._stuck = StuckJobs()
        self._ended, self._away = Ages(), Ages()
        self._resumes = NodeResumes(os.getuid())  # SlurmUser's
        self._nodes_checked_at = float("-inf")
        self._open_tasks: set[int] = set()
        self._changes = ChangeWatcher(self._slurm, int(NODES_EVERY_S))
        self._releases: Counter[int] = Counter()
        self._open_partition = ""
        self._schedule_again = False
        self._heartbeat = Heartbeat(config.gate.state)
        self._say = say
        self._troubles: dict[str, str] = {}
        self._rotated_at = float("-inf")

    def check(self, now: float, tick: float) -> None:
        """Compare actual with desired states, and act.

        `now` is in Unix seconds, as Slurm's times are; `tick` is in monotonic seconds, for durations.
        """
        status = self.status()
        with self._part("partitions"):
            self._set_partitions(status)
        if self._schedule_again:  # slurmctld may have noticed a job's end only now
            self._schedule_again = False
            self._schedule()
        with self._part("ends"):
            self._deliver_ends(status, now, tick)
        with self._part("turned-away jobs"):
            self._release_jobs(status, now, tick)
        with self._part("open tasks"):
            self._close_tasks(status, tick)
        if self._partitions and tick - self._nodes_checked_at >= NODES_EVERY_S:
            self._nodes_checked_at = tick
            with self._part("nodes"):
                self._resume_nodes(tick)
            with self._part("jobs"):
                self._check_jobs(status, tick)
        with self._part("log"):
            self._rotate(tick)

    def job_ended(self) -> None:
        """Have slurmctld schedule the next job, now and after the next check.

        slurmctld schedules when a node's epilog has ended, while the job still completes if EpilogSlurmctld takes
        longer, as ours does. Without this the next job waits for the backfill scheduler, up to half a minute.
        """
        self._schedule_again = True
        self._schedule()

    def _schedule(self) -> None:
        with self._part("room"):
            if (
                self._open_partition
            ):  # an update of a partition makes slurmctld schedule, even if nothing changes
                self._slurm.set_partition(self._open_partition, "UP")

    def close(self) -> None:
        """Release files and commands."""
        self._changes.close()
        self._heartbeat.close()

    def status(self) -> Status | None:
        """The dispatcher's status; None if it does not answer."""
        with self._part("dispatcher"):
            answer = self._client.ask(GetStatus(jobs=True), timeout_s=STATUS_TIMEOUT_S)
            if isinstance(answer, Status):
                return answer
        return None

    def _set_partitions(self, status: Status | None) -> None:
        desired, states = self._spool.desired_states(), self._slurm.partitions()
        self._open_partition = ""
        for name in self._partitions:
            if name not in states:
                raise QslurmError(f"Slurm has no partition {name}, but its backend is configured.")
            goal = target(desired.get(name), out_of_service(status, backend_of(name)))
            if states[name] != goal.state:
                self._slurm.set_partition(name, goal.state)
                self._say(
                    "partition set",
                    partition=name,
                    was=states[name],
                    state=goal.state,
                    why=goal.reason or None,
                )
            if goal.state == "UP":
                self._open_partition = name

    def _deliver_ends(self, status: Status | None, now: float, tick: float) -> None:
        ended = self._spool.ended() if status is not None else []
        ages = self._ended.of(((one.job_id, one.restart) for one in ended), tick)
        jobs = self._slurm.jobs(record.job_id for record in ended if not record.state)
        for record in ended:
            age_s = ages[record.job_id, record.restart]
            finish = delivery(record, jobs.get(record.job_id), now=now, age_s=age_s)
            if finish is not None:
                self._finish(finish, "its epilog could not", record.center)
                self._spool.remove(record)

    def _release_jobs(self, status: Status | None, now: float, tick: float) -> None:
        records = self._spool.turned_away()
        ages = self._away.of(((one.job_id, one.restart) for one in records), tick)
        if not records:
            return
        jobs, states = self._slurm.jobs(record.job_id for record in records), self._slurm.partitions()
        for record in records:
            backend = backend_of(record.partition)
            runs = states.get(record.partition) in {"UP", "DRAIN"} and not out_of_service(status, backend)
            age_s = ages[record.job_id, record.restart]
            match release(record, jobs.get(record.job_id), runs=runs, now=now, age_s=age_s):
                case "start":
                    self._slurm.start_now(record.slurm_id or str(record.job_id))
                    self._say(
                        "job released",
                        job=record.job_id,
                        restart=record.restart,
                        center=record.center,
                        partition=record.partition,
                        waited_because=record.reason,
                    )
                case "remove":
                    self._spool.remove(record)
                case "wait":
                    pass

    def _close_tasks(self, status: Status | None, now: float) -> None:
        if status is not None and status.scope != "all":
            raise QslurmError(f"The dispatcher does not list tasks: {status.scope_reason or 'not trusted'}.")
        tasks = [] if status is None else status.tasks
        jobs = self._jobs({task.job_id for task in tasks})
        for finish in self._overdue.due(tasks, jobs, now):
            center = next(task.center for task in tasks if task.job_id == finish.job_id)
            self._finish(finish, "its epilog did not", center)

    def _jobs(self, job_ids: Collection[int]) -> dict[int, JobInfo]:
        """The jobs with these ids that slurmctld knows."""
        queue = self._queue() if job_ids else None
        if queue is None:
            return self._slurm.jobs(job_ids)
        return {job_id: job for job_id in job_ids if (job := queue.job(job_id)) is not None}

    def _in_state(self, state: Literal["PENDING", "RUNNING"]) -> dict[int, JobInfo]:
        """The jobs of the partitions in this state."""
        if (queue := self._queue()) is None:
            return self._slurm.jobs_in(state, self._partitions)
        here = set(self._partitions)
        return {
            job.job_id: job
            for job in queue.jobs()
            if job.state == state and not here.isdisjoint(job.partition.split(","))
        }

    def _ends(self, job_ids: list[int]) -> list[KnownEnd]:
        answer = self._client.ask(GetEnds(job_ids=job_ids)) if job_ids else None
        return answer.ends if isinstance(answer, Ends) else []

    def _finish(self, finish: Finish, why: str, center: str | None) -> None:
        self._client.ask(finish)
        about = {"job": finish.job_id, "restart": finish.restart, "center": center}
        self._say("end of job reported to the dispatcher", **about, state=finish.state, why=why)

    def _resume_nodes(self, tick: float) -> None:
        for name in self._resumes.due(self._slurm.drained(self._partitions), tick):
            self._slurm.resume_node(name)
            self._say(
                "node resumed",
                node=name,
                why=f"slurmctld drained the node because it launched a job twice ({SECOND_LAUNCH})",
            )

    def _check_jobs(self, status: Status | None, tick: float) -> None:
        """Correct what slurmctld lost in a crash, when jobs have changed: listing 10,000 jobs is the costliest part."""
        queue = self._queue()
        version = -1 if queue is None else queue.version
        has_changed = self._changes.has_changed() if queue is None else version != self._queue_version
        if queue is not None:  # the feeder detects changes
            self._changes.close()
        if has_changed:
            self._release_held()
        if status is not None:
            self._end_forgotten(status, tick, has_changed=has_changed)
        if has_changed:
            self._changes.mark_read()
        self._queue_version = version

    def _release_held(self) -> None:
        for job in self._in_state("PENDING").values():
            if job.reason in LAUNCH_FAILED and self._releases[job.job_id] < RELEASES:
                self._releases[job.job_id] += 1
                self._slurm.release(str(job.job_id))  # the dispatcher knows whether its script has run
                self._say(
                    "job released", job=job.job_id, why="slurmctld held the job because it launched it twice"
                )

    def _end_forgotten(self, status: Status, tick: float, *, has_changed: bool) -> None:
        """Cancel ended jobs that slurmctld lists as running: they occupy CPUs until it notices."""
        open_tasks = {task.job_id for task in status.tasks if not task.over}
        if not has_changed and open_tasks == self._open_tasks and not self._stuck.suspects:
            return
        running = self._in_state("RUNNING")  # must be read after the dispatcher's open tasks
        suspects = sorted(running.keys() - open_tasks)
        for end in self._stuck.due(running, self._ends(suspects[:MOST_ENDS]), tick):
            job = self._slurm.job(end.job_id)
            if (
                job is not None
                and is_stuck(job, end)
                and is_named(job, self._slurm.marks(end.job_id).key, end)
            ):
                # No reason in AdminComment: slurmctld may wait for slurmdbd. The dispatcher has the reason.
                self._slurm.cancel(job.shown_id)
                why = "the job has ended, but slurmctld still lists it as running"
                self._say("job ended", job=end.job_id, restart=end.restart, center=end.center, why=why)
        self._open_tasks = open_tasks

    def _rotate(self, now: float) -> None:
        if now - self._rotated_at > ROTATE_EVERY_S:
            self._spool.rotate_log()
            self._rotated_at = now

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """Confine errors to one part of a check; log them when they begin, change and end."""
        if name != HEARTBEAT:
            with self._part(HEARTBEAT):
                self._heartbeat.write()
        try:
            yield
        except (QslurmError, OSError) as error:
            if self._troubles.get(name) != str(error):
                self._troubles[name] = str(error)
                self._say("trouble", "warning", about=name, why=str(error))
        else:
            if self._troubles.pop(name, None) is not None:
                self._say("recovered", about=name)
