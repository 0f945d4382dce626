"""The gate: keeps C2's partitions as operators wish and backends allow, and makes good what a hook had to leave.

It runs beside slurmctld as SlurmUser. Slurm forgets a partition's state when it restarts; the gate looks every
second and says it again. It outlives slurmctld, the dispatcher and damaged files: what fails is logged once, and
tried again at the next look.
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
"""Seconds without an answer after which the dispatcher counts as silent, and partitions close."""

ALIVE = "beat"
"""Said before each part of a look."""

ROTATE_EVERY_S = 3600.0
NODES_EVERY_S = 5.0
RELEASES = 3
"""How often a job is released that slurmctld holds because its launch went wrong; then an operator should look."""


class Gate:
    """One look at a time. `say` takes an event for the log, with its fields, whenever something changes.

    `queue` gives C2's jobs if somebody has just read them: then squeue is not asked again.
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
        self._looked_at_nodes = float("-inf")
        self._are_open: set[int] = set()
        self._changes = ChangeWatcher(self._slurm, int(NODES_EVERY_S))
        self._releases: Counter[int] = Counter()
        self._open = ""
        self._has_room = False
        self._beat = Heartbeat(config.gate.state)
        self._say = say
        self._troubles: dict[str, str] = {}
        self._rotated = float("-inf")

    def look(self, now: float, tick: float) -> None:
        """Compare what is with what should be, and act.

        `now` is in Unix seconds, as Slurm's times are; `tick` is in monotonic ones, by which anybody waits.
        """
        status = self.status()
        with self._part("partitions"):
            self._set_partitions(status)
        if self._has_room:  # for those whose end slurmctld took longer to take in
            self._has_room = False
            self._fill()
        with self._part("ends"):
            self._deliver_ends(status, now, tick)
        with self._part("turned-away jobs"):
            self._release_jobs(status, now, tick)
        with self._part("open tasks"):
            self._close_tasks(status, tick)
        if self._partitions and tick - self._looked_at_nodes >= NODES_EVERY_S:
            self._looked_at_nodes = tick
            with self._part("nodes"):
                self._resume_nodes(tick)
            with self._part("jobs"):
                self._look_at_jobs(status, tick)
        with self._part("log"):
            self._rotate(tick)

    def has_room(self) -> None:
        """A job has ended: have slurmctld look for one to take its place, now and after the next look.

        It looks by itself when a node's epilog is over, and finds the job still ending if EpilogSlurmctld takes longer,
        as ours does. The next one would wait for the backfill scheduler, up to half a minute.
        """
        self._has_room = True
        self._fill()

    def _fill(self) -> None:
        with self._part("room"):
            if self._open:  # told of a partition, even what it knows, slurmctld looks for jobs that can start
                self._slurm.set_partition(self._open, "UP")

    def close(self) -> None:
        """Watch no more."""
        self._changes.close()
        self._beat.close()

    def status(self) -> Status | None:
        """What the dispatcher says, or None if it is silent."""
        with self._part("dispatcher"):
            answer = self._client.ask(GetStatus(jobs=True), timeout_s=STATUS_TIMEOUT_S)
            if isinstance(answer, Status):
                return answer
        return None

    def _set_partitions(self, status: Status | None) -> None:
        wishes, states = self._spool.wishes(), self._slurm.partitions()
        self._open = ""
        for name in self._partitions:
            if name not in states:
                raise QslurmError(f"Slurm has no partition {name}, but its backend is configured.")
            goal = target(wishes.get(name), out_of_service(status, backend_of(name)))
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
                self._open = name

    def _deliver_ends(self, status: Status | None, now: float, tick: float) -> None:
        ended = self._spool.ended() if status is not None else []
        ages = self._ended.of(((one.job_id, one.restart) for one in ended), tick)
        jobs = self._slurm.jobs(record.job_id for record in ended if not record.state)
        for record in ended:
            age_s = ages[record.job_id, record.restart]
            finish = delivery(record, jobs.get(record.job_id), now=now, age_s=age_s)
            if finish is not None:
                self._finish(finish, "its epilog could not", record.center)
                self._spool.take(record)

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
                case "forget":
                    self._spool.take(record)
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
        """These jobs, as far as slurmctld knows them."""
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

    def _look_at_jobs(self, status: Status | None, tick: float) -> None:
        """Put right what slurmctld has forgotten. The list of ten thousand jobs costs as much as all else here."""
        queue = self._queue()
        version = -1 if queue is None else queue.version
        has_changed = self._changes.has_changed() if queue is None else version != self._queue_version
        if queue is not None:  # whoever has read it says what changes
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
                self._slurm.release(str(job.job_id))  # what of it has run already, the dispatcher knows
                self._say(
                    "job released", job=job.job_id, why="slurmctld held the job because it launched it twice"
                )

    def _end_forgotten(self, status: Status, tick: float, *, has_changed: bool) -> None:
        """End the jobs whose end slurmctld has forgotten: it would keep their CPUs until it misses them."""
        are_open = {task.job_id for task in status.tasks if not task.over}
        if not has_changed and are_open == self._are_open and not self._stuck.suspects:
            return
        running = self._in_state("RUNNING")  # after the dispatcher was asked which are open
        asked = sorted(running.keys() - are_open)
        for end in self._stuck.due(running, self._ends(asked[:MOST_ENDS]), tick):
            job = self._slurm.job(end.job_id)
            if (
                job is not None
                and is_stuck(job, end)
                and is_named(job, self._slurm.marks(end.job_id).key, end)
            ):
                # Why, the dispatcher tells its owner: for an AdminComment slurmctld may wait for slurmdbd.
                self._slurm.cancel(job.shown_id)
                why = "the job has ended, but slurmctld still lists it as running"
                self._say("job ended", job=end.job_id, restart=end.restart, center=end.center, why=why)
        self._are_open = are_open

    def _rotate(self, now: float) -> None:
        if now - self._rotated > ROTATE_EVERY_S:
            self._spool.rotate_log()
            self._rotated = now

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """Keep trouble in one part of a look from the others; say it when it begins, changes and ends."""
        if name != ALIVE:
            with self._part(ALIVE):
                self._beat()
        try:
            yield
        except (QslurmError, OSError) as error:
            if self._troubles.get(name) != str(error):
                self._troubles[name] = str(error)
                self._say("trouble", "warning", about=name, why=str(error))
        else:
            if self._troubles.pop(name, None) is not None:
                self._say("recovered", about=name)
