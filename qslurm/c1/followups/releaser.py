"""The releaser: releases or cancels follow-up jobs on C1, and reports C1 jobs that no longer wait.

It may release and cancel users' jobs, so it accepts no connections: it polls the agent. It stores nothing: all state is
in C1's queue and the agent's outbox, so it may be killed at any moment.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from qslurm.c1.connection.agent_messages import (
    AgentRequest,
    CancelBound,
    GetOutcomes,
    GetReleaser,
    Outcomes,
    ReleaserState,
    SubmissionOutcome,
)
from qslurm.c1.followups.followup_submission import decide
from qslurm.errors import ConfigError, QslurmError, RefusedError, UnreachableError
from qslurm.system.backoff import Backoff
from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.followups.c1_queue import C1Queue, HeldFollowUp

log = EventLog(__name__)

SHORTEST_PAUSE_S = 1.0
"""Seconds between two polls of C1's queue."""

PATIENCE_S = 30.0
WATCHING_S = 10.0
"""Seconds the agent waits for endings, while C1 jobs wait for submissions."""

LONGEST_PAUSE_S = 15.0
SHARE = 0.1
"""Maximum fraction of time that our polls occupy C1's slurmctld."""

REFUSED_S = 60.0
"""Seconds until a change that slurmctld refused is retried."""

ORPHANED_S = 600.0
"""Seconds after which a follow-up whose submission never arrived is cancelled."""

T = TypeVar("T")


class AgentClient(Protocol):
    """The center's agent."""

    def ask(self, question: AgentRequest, answer: type[T]) -> T:
        """Send a request; the answer is of this type."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def serve(config: Config) -> None:
    """Run until SIGTERM or SIGINT; ConfigError if no agent is configured."""
    from qslurm.c1.config.settings import section_of
    from qslurm.c1.connection.agent_connection import AgentConnection
    from qslurm.c1.followups.c1_queue import C1Queue

    if not config.agent.socket and not config.agent.address:
        raise ConfigError(
            "No agent configured.",
            hint=f"Set socket or address under [{section_of(config.platform, 'agent')}] in the configuration.",
        )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    log.info("ready", agent=config.agent.socket or config.agent.address)
    # a daemon: its request may wait for the agent, and nothing is lost when it ends with the process
    worker = threading.Thread(
        target=Releaser(AgentConnection(config, say=log.info), C1Queue()).run, args=(stopping,), daemon=True
    )
    worker.start()
    stopping.wait()
    log.info("stopping")


class Releaser:
    """The releaser of one agent on one cluster."""

    def __init__(
        self, agent: AgentClient, queue: C1Queue, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._agent = agent
        self._queue = queue
        self._clock = clock
        self._orphans: dict[int, float] = {}
        self._news = -1
        self._watching = False
        self._cluster = ""
        self._refused: dict[int, float] = {}  # when to retry changes that slurmctld refused, by job
        self._busy_s = 0.0

    def run(self, stopping: threading.Event) -> None:
        """Run until `stopping` is set; failures are retried."""
        pause, backoff = SHORTEST_PAUSE_S, Backoff(2 * SHORTEST_PAUSE_S, LONGEST_PAUSE_S)
        while not stopping.wait(pause):
            try:
                self.round()
                pause = max(SHORTEST_PAUSE_S, self._busy_s / SHARE)
                backoff.succeed()
            except Exception as error:  # noqa: BLE001 -- a bug must not stop all follow-ups
                pause = backoff.fail()
                if isinstance(error, QslurmError):
                    log.warning("retrying", reason=error.message, pause_s=pause)
                else:
                    log.crashed("a round failed", error, pause_s=pause)
                self._agent.close()

    def round(self) -> None:
        """Poll C1's queue and the agent once, and act. A refusal for one job does not block others."""
        if not self._cluster:
            self._cluster = self._queue.cluster()
            log.info("watching", cluster=self._cluster)
        name = self._agent.ask(GetReleaser(), ReleaserState).name
        held = self._held(name)
        patience_s = WATCHING_S if self._watching else PATIENCE_S
        keys = sorted({job.mark.key for job in held})
        answer = self._agent.ask(GetOutcomes(keys, self._cluster, self._news, patience_s), Outcomes)
        self._news, self._watching = answer.news, bool(answer.bound)
        endings = {ending.key: ending for ending in answer.endings}
        self._orphans = {job.job_id: self._orphans[job.job_id] for job in held if job.job_id in self._orphans}
        for job in held:
            if job.mark.key in endings:
                self._settle(job, endings[job.mark.key])
        self._cancel_unwaited(answer.bound)

    def _held(self, platform: str) -> list[HeldFollowUp]:
        began = self._clock()
        held = [job for job in self._queue.held() if job.mark.platform == platform]
        now = self._clock()
        self._busy_s = now - began
        self._refused = {job_id: due for job_id, due in self._refused.items() if due > now}
        return [job for job in held if job.job_id not in self._refused]

    def _settle(self, job: HeldFollowUp, ending: SubmissionOutcome) -> None:
        if ending.how == "unknown":
            since = self._orphans.setdefault(job.job_id, self._clock())
            if self._clock() - since > ORPHANED_S:
                self._cancel(job, "The job that it follows was not submitted.")
            return
        self._orphans.pop(job.job_id, None)
        if ending.user != job.user:
            self._cancel(job, "It follows another user's job.")
            return
        decision = decide(job.mark.condition, ending.how, ending.job_id, ending.why)
        if decision.do == "cancel":
            self._cancel(job, decision.reason)
        elif decision.do == "release":
            comment = f"qslurm after={ending.job_id} key={ending.key}"
            if self._try(job, lambda: self._queue.release(job.job_id, comment)):
                log.info(
                    "released", c1_job=job.job_id, job=ending.job_id, user=job.user, reason=decision.reason
                )

    def _cancel(self, job: HeldFollowUp, reason: str) -> None:
        if self._try(job, lambda: self._queue.cancel(job, reason)):
            log.info("cancelled", c1_job=job.job_id, key=job.mark.key, user=job.user, reason=reason)

    def _try(self, job: HeldFollowUp, act: Callable[[], None]) -> bool:
        """Whether the change succeeded; a refusal for one job does not block others."""
        try:
            act()
        except RefusedError as error:
            log.warning("refused", c1_job=job.job_id, user=job.user, reason=error.message, pause_s=REFUSED_S)
            self._refused[job.job_id] = self._clock() + REFUSED_S
            return False
        return True

    def _cancel_unwaited(self, bound: dict[str, str]) -> None:
        if not bound:
            return
        jobs = {key: job.removeprefix(f"{self._cluster}:") for key, job in bound.items()}
        running = self._queue.running(jobs.values())
        for key, job in jobs.items():
            if job not in running:
                log.info("gone", c1_job=job, key=key)
                try:
                    self._agent.ask(CancelBound(key), type(None))
                except UnreachableError:
                    raise
                except QslurmError as error:  # the others are cancelled all the same
                    log.warning("not cancelled", c1_job=job, key=key, reason=error.message)
