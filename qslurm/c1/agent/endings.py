"""Outcomes of submissions, for jobs of C1 that depend on them: follow-ups and waiting jobs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qslurm.c1.agent.reconcile import LOST_FOR_GOOD
from qslurm.c1.connection.agent_messages import (
    EndBound,
    Ending,
    Endings,
    GetEndings,
    LetGo,
    Releasing,
    Submit,
    WhoReleases,
)
from qslurm.errors import (
    JobCancelledError,
    PermissionDeniedError,
    QslurmError,
    TimedOutError,
    UnknownJobError,
)
from qslurm.slurm.states import explain
from qslurm.system.event_log import EventLog

if TYPE_CHECKING:
    from qslurm.c1.agent.job_tracker import JobTracker
    from qslurm.c1.agent.outbox import Facts, Outbox
    from qslurm.c1.agent.user import User
    from qslurm.c1.agent.wait_bindings import WaitBindings
    from qslurm.c1.config.center_config import Config
    from qslurm.c1.connection.center_connection import CenterConnection

log = EventLog(__name__)

AT_ONCE = 50
"""Maximum endings in one answer, since each is verified with C2."""

OPEN = ("open", "unknown")


class Dependants:
    """Dependants of submissions. Thread-safe; `center` is the calling thread's connection."""

    def __init__(self, config: Config, outbox: Outbox, bonds: WaitBindings, follower: JobTracker) -> None:
        self._releaser, self._platform = config.agent.releaser, config.platform
        self._outbox = outbox
        self._bonds = bonds
        self._follower = follower
        self._news = 0
        self._watched = False  # the releaser knows of somebody who waits, so it looks often
        self._heard = time.monotonic()

    def releasing(self) -> Releasing:
        """The releaser, and whether it is active."""
        if not self._releaser:
            return Releasing("")
        return Releasing(self._platform, time.monotonic() - self._heard)

    def expect(self, question: Submit) -> None:
        """Register a C1 job that depends on a submission about to be accepted."""
        if question.waits:
            self._bonds.tie(question.key, question.waits)
        if question.followed or (question.waits and not self._watched):
            self._news += 1

    def answer(
        self, user: User, question: WhoReleases | LetGo | GetEndings | EndBound, center: CenterConnection
    ) -> Any:
        """Answer a request about them; most are allowed only for the releaser and admins."""
        match question:
            case WhoReleases():
                return self.releasing()
            case LetGo(key=key):
                facts = self._outbox.facts([key]).get(key)
                return self._bonds.untie(key) if facts is not None and facts.user == user.name else None
        if not user.admin and (not self._releaser or user.name != self._releaser):
            raise PermissionDeniedError(
                f"User {user.name} is not this center's releaser.",
                hint="Set releaser under [agent] in the agent's configuration.",
            )
        return (
            self._end(center, question.key)
            if isinstance(question, EndBound)
            else self._endings(center, question)
        )

    def _endings(self, center: CenterConnection, question: GetEndings) -> Endings:
        """The submissions' current outcomes."""
        self._heard = time.monotonic()
        news = self._news  # first: what comes while we look is told next time
        found: list[Ending] = []
        known, over = self._outbox.facts(question.keys), 0
        for key in question.keys:
            if over == AT_ONCE:
                break
            found.append(self._ending(center, key, known.get(key)))
            over += found[-1].how not in OPEN
        bound = self._bonds.of(question.cluster)
        self._watched = bool(bound)
        return Endings(found, bound, news)

    def _end(self, center: CenterConnection, key: str) -> None:
        """Cancel a submission's job after the C1 job that waited for it has ended.

        What C2 has not answered for yet can't be cancelled, nor what it has lost: that comes back, and its old id may
        be another's meanwhile. The releaser asks again.
        """
        entry = self._outbox.with_key(key)
        if entry is not None and not entry.ended and self._bonds.has(key):
            if entry.job_id is None or not _has(center, entry.job_id, key):
                return
            center.slurm.cancel(entry.job_id)
            self._follower.cancelled.add(entry.number, key, entry.job_id)
            self._follower.look()
            log.info(
                "cancelled",
                job=entry.job_id,
                key=key,
                user=entry.user,
                reason="the C1 job that waited for it has ended",
            )
        self._bonds.untie(key)

    def _ending(self, center: CenterConnection, key: str, facts: Facts | None) -> Ending:
        if facts is None:
            return Ending(key, "unknown")
        if facts.state == "refused":
            return Ending(key, "refused", facts.user, why=str(facts.answer.get("message", "")))
        if facts.state == "lost":
            return Ending(key, "lost", facts.user, facts.job_id or 0, explain(LOST_FOR_GOOD))
        if facts.job_id is None or not facts.ended:
            return Ending(key, "open", facts.user, facts.job_id or 0)
        try:
            how, why = _outcome(center, facts.job_id, key)
        except UnknownJobError:
            how, why = "lost", ""
        except QslurmError as error:  # C2 is away: what is known now would be half of it
            log.warning("cannot query C2 for a job's outcome", job=facts.job_id, reason=error.message)
            how, why = "open", ""
        return Ending(key, how, facts.user, facts.job_id, why)


def _has(center: CenterConnection, job_id: int, key: str) -> bool:
    """Whether C2 has this submission's job under that id."""
    try:
        tasks = center.slurm.tasks(job_id)
    except UnknownJobError:
        return False
    return all(job.marks.key in ("", key) for job in tasks)


def _outcome(center: CenterConnection, job_id: int, key: str) -> tuple[str, str]:
    """The outcome of a job or of all tasks of an array, and the reason; "open" if some have not ended."""
    from qslurm.c1.queries.job_ids import JobRef
    from qslurm.c1.queries.tasks import look, outcome_error

    tasks = look(center, JobRef(job_id))
    if any(job.marks.key not in ("", key) for job in tasks.jobs):
        raise UnknownJobError(f"Job {job_id} is another by now.")
    if not tasks.is_final:
        return "open", ""
    error = outcome_error(center, tasks)
    if error is None:
        return "completed", ""
    how = {JobCancelledError: "cancelled", TimedOutError: "timed_out"}.get(type(error), "failed")
    return how, error.message
