"""Accepts submissions: stamps the authenticated user into them and enforces the center's limits."""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from qslurm.c1.agent.limits import jobs_in, limits_of, within_limits
from qslurm.c1.connection.agent_messages import Submission, Submit
from qslurm.c1.origin import with_user
from qslurm.errors import InvalidInputError, UnknownJobError
from qslurm.payload.comment import Comment, with_origin
from qslurm.payload.validate import validate
from qslurm.wire.failures import Failed, error_of

if TYPE_CHECKING:
    from qslurm.c1.agent.outbox import Entry, Outbox
    from qslurm.c1.agent.releaser_requests import ReleaserRequests
    from qslurm.c1.agent.sender import SenderPool
    from qslurm.c1.agent.user import User
    from qslurm.c1.config.settings import AgentSettings

_KEY = re.compile(r"[A-Za-z0-9_.:/@+,-]{8,128}")


class Intake:
    """Accepts submissions. Thread-safe."""

    def __init__(
        self, settings: AgentSettings, outbox: Outbox, sender: SenderPool, releaser_requests: ReleaserRequests
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._sender = sender
        self._releaser_requests = releaser_requests
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        """Locks by user."""

    def take(self, user: User, request: Submit) -> Submission:
        """Accept a submission if it is new, and return its state; RefusedError if its user may not submit it."""
        entry = self._outbox.by_key(request.key)
        if entry is None:
            payload = self._checked_payload(user, request)
            with self._serialized(user):
                payload = {**payload, "job": self._allowed(user, payload["job"])}
                self._releaser_requests.register(request)
                entry = self._outbox.add(request.key, user.name, payload)
            self._sender.wake(entry.number)
        if entry.user != user.name:
            raise InvalidInputError(
                "This submission key belongs to another user's submission.",
                hint="Submit it again with a new key.",
            )
        return self._state_of(entry)

    def state(self, key: str) -> Submission:
        """A submission's state; raises the error it was refused with."""
        entry = self._outbox.by_key(key)
        if entry is None:
            raise UnknownJobError(f"The center's agent has no submission {key}.")
        return self._state_of(entry)

    def _state_of(self, entry: Entry) -> Submission:
        if entry.state == "refused":
            raise error_of(msgspec.convert(entry.answer, Failed))
        if entry.job_id is None:
            return Submission("waiting", reason=self._sender.trouble.get(entry.key, ""))
        return Submission("accepted", entry.job_id, **entry.answer)

    def _checked_payload(self, user: User, request: Submit) -> dict[str, Any]:
        """The payload with the authenticated user; InvalidInputError for an invalid one."""
        payload = request.payload
        validate(payload)
        job = payload["job"]
        marks = Comment.parse(str(job.get("comment", "")))
        if marks.key != request.key or not _KEY.fullmatch(request.key):
            raise InvalidInputError("The payload's comment lacks the submission's key.")
        # the authenticated user, not the one that the command names
        comment = with_origin(job["comment"], with_user(marks.origin, user.name))
        return {**payload, "job": {**job, "comment": comment}}

    def _allowed(self, user: User, job: dict[str, Any]) -> dict[str, Any]:
        """The job, with its default account; RefusedError if a limit forbids it."""
        open_jobs = None if user.admin else partial(self._open_jobs, user.name)
        return within_limits(limits_of(self._settings, user.name), job, open_jobs)

    def _serialized(self, user: User) -> AbstractContextManager[object]:
        """Serialize a limited user's submissions, so that each is counted before the next."""
        is_counted = limits_of(self._settings, user.name).max_open_jobs and not user.admin
        return self._locks[user.name] if is_counted else nullcontext()

    def _open_jobs(self, user: str) -> int:
        return sum(jobs_in(array) for array in self._outbox.open_arrays(user))
