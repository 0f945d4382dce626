"""The releaser: on C1, it lets follow-ups go when what they follow has ended, and says who waits no more.

It has the right to release and cancel users' jobs, asks the agent by itself, and listens to nobody. It keeps nothing:
what is to be done stands in C1's queue and in the agent's outbox, so it may be killed at any moment.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from qslurm.c1.connection.agent_messages import (
    EndBound,
    Ending,
    Endings,
    GetEndings,
    Question,
    Releasing,
    WhoReleases,
)
from qslurm.c1.followups.submission import decide
from qslurm.errors import ConfigError, QslurmError, RefusedError, UnreachableError
from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    from qslurm.c1.config.center_config import Config
    from qslurm.c1.followups.c1_queue import Held, Queue

log = EventLog(__name__)

SHORTEST_PAUSE_S = 1.0
"""Between two looks at C1's queue."""

PATIENCE_S = 30.0
WATCHING_S = 10.0
"""The agent's patience, while jobs on C1 wait for submissions; who is gone is noticed after so long."""

LONGEST_PAUSE_S = 15.0
SHARE = 0.1
"""Of the time, at most, C1's slurmctld is busy with our looks."""

REFUSED_S = 60.0
"""Until something is tried again that slurmctld has refused for one job."""

ORPHANED_S = 600.0
"""A follow-up of a submission that the agent does not get in this time has lost it: its command was killed."""

T = TypeVar("T")


class Agent(Protocol):
    """The center's agent."""

    def ask(self, question: Question, answer: type[T]) -> T:
        """The agent's answer, as this type."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


def serve(config: Config) -> None:
    """Work until SIGTERM or SIGINT; ConfigError where there is no agent to ask."""
    from qslurm.c1.config.settings import section_of
    from qslurm.c1.connection.agent_connection import AgentConnection
    from qslurm.c1.followups.c1_queue import Queue

    if not config.agent.socket and not config.agent.address:
        raise ConfigError(
            "Nobody said where the agent is.",
            hint=f"Set socket or address under [{section_of(config.platform, 'agent')}] in the configuration.",
        )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    log.info("ready", agent=config.agent.socket or config.agent.address)
    # the round in hand may wait for the agent's answer: nothing is lost when it ends with the process
    worker = threading.Thread(
        target=Releaser(AgentConnection(config, say=log.info), Queue()).run, args=(stopping,), daemon=True
    )
    worker.start()
    stopping.wait()
    log.info("stopping")


class Releaser:
    """One for each agent and each cluster."""

    def __init__(self, agent: Agent, queue: Queue, clock: Callable[[], float] = time.monotonic) -> None:
        self._agent = agent
        self._queue = queue
        self._clock = clock
        self._orphans: dict[int, float] = {}
        self._news = -1
        self._watching = False
        self._cluster = ""
        self._refused: dict[int, float] = {}  # not before: what slurmctld refuses is not tried at once again
        self._busy_s = 0.0

    def run(self, stopping: threading.Event) -> None:
        """Work until `stopping` is set; whatever goes wrong is tried again."""
        pause = SHORTEST_PAUSE_S
        while not stopping.wait(pause):
            try:
                self.round()
                pause = max(SHORTEST_PAUSE_S, self._busy_s / SHARE)
            except Exception as error:  # noqa: BLE001 -- a bug must not hold everybody's follow-ups
                pause = min(2 * pause, LONGEST_PAUSE_S)
                if isinstance(error, QslurmError):
                    log.warning("tries again", reason=error.message, pause_s=pause)
                else:
                    log.crashed("a round failed", error, pause_s=pause)
                self._agent.close()

    def round(self) -> None:
        """Look at C1's queue, ask the agent, do what there is to do. What one job refuses does not hold up others."""
        if not self._cluster:
            self._cluster = self._queue.cluster()
            log.info("watching", cluster=self._cluster)
        name = self._agent.ask(WhoReleases(), Releasing).name
        held = self._held(name)
        patience_s = WATCHING_S if self._watching else PATIENCE_S
        keys = sorted({job.mark.key for job in held})
        said = self._agent.ask(GetEndings(keys, self._cluster, self._news, patience_s), Endings)
        self._news, self._watching = said.news, bool(said.bound)
        endings = {ending.key: ending for ending in said.endings}
        self._orphans = {job.job_id: self._orphans[job.job_id] for job in held if job.job_id in self._orphans}
        for job in held:
            if job.mark.key in endings:
                self._settle(job, endings[job.mark.key])
        self._end_unwaited(said.bound)

    def _held(self, platform: str) -> list[Held]:
        began = self._clock()
        held = [job for job in self._queue.held() if job.mark.platform == platform]
        now = self._clock()
        self._busy_s = now - began
        self._refused = {job_id: due for job_id, due in self._refused.items() if due > now}
        return [job for job in held if job.job_id not in self._refused]

    def _settle(self, job: Held, ending: Ending) -> None:
        if ending.how == "unknown":
            since = self._orphans.setdefault(job.job_id, self._clock())
            if self._clock() - since > ORPHANED_S:
                self._cancel(job, "The job that it follows was never submitted.")
            return
        self._orphans.pop(job.job_id, None)
        if ending.user != job.user:
            self._cancel(job, "It follows a job of somebody else.")
            return
        decision = decide(job.mark.condition, ending.how, ending.job_id, ending.why)
        if decision.do == "cancel":
            self._cancel(job, decision.reason)
        elif decision.do == "release":
            comment = f"qslurm after={ending.job_id} key={ending.key}"
            if self._done(job, lambda: self._queue.release(job.job_id, comment)):
                log.info(
                    "released", c1_job=job.job_id, job=ending.job_id, user=job.user, reason=decision.reason
                )

    def _cancel(self, job: Held, reason: str) -> None:
        if self._done(job, lambda: self._queue.cancel(job, reason)):
            log.info("cancelled", c1_job=job.job_id, key=job.mark.key, user=job.user, reason=reason)

    def _done(self, job: Held, act: Callable[[], None]) -> bool:
        """Whether it could be done; what slurmctld refuses for one job must not hold up the others."""
        try:
            act()
        except RefusedError as error:
            log.warning("refused", c1_job=job.job_id, user=job.user, reason=error.message, pause_s=REFUSED_S)
            self._refused[job.job_id] = self._clock() + REFUSED_S
            return False
        return True

    def _end_unwaited(self, bound: dict[str, str]) -> None:
        if not bound:
            return
        jobs = {key: job.removeprefix(f"{self._cluster}:") for key, job in bound.items()}
        running = self._queue.running(jobs.values())
        for key, job in jobs.items():
            if job not in running:
                log.info("gone", c1_job=job, key=key)
                try:
                    self._agent.ask(EndBound(key), type(None))
                except UnreachableError:
                    raise
                except QslurmError as error:  # one that can't be cancelled must not keep the others
                    log.warning("not cancelled", c1_job=job, key=key, reason=error.message)
