"""The client: sends requests and interprets the responses."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from qslurm.errors import (
    AccountingAwayError,
    ConfigError,
    InvalidInputError,
    RefusedError,
    TokenError,
    UnreachableError,
)
from qslurm.payload.comment import in_environment
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.rest.adapters import AUTO
from qslurm.slurm.rest.classify import ClassifiedResponse, answers
from qslurm.slurm.rest.endpoint import Endpoint
from qslurm.slurm.rest.job_records import partition_state
from qslurm.slurm.rest.refusals import error_for
from qslurm.slurm.rest.submitted import Submitted
from qslurm.slurm.rest.version_negotiation import SUBMIT, WITHOUT_ACCOUNTING, VersionNegotiation

if TYPE_CHECKING:
    from qslurm.slurm.rest.transport import Transport
    from qslurm.tokens.secret import Secret

_USER = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*){2}")
_NO_VAL = 2**32 - 2
_LOOK_BACK_S = 14 * 24 * 3600
"""How far back slurmdbd is searched for a key."""


class SlurmrestClient:
    """A center's client for one C2. Keeps a connection; not thread-safe.

    `api_version` is "auto" or a version in any spelling. With "auto", `known_version` (from an earlier negotiation) is
    tried first, and `on_version` is called with a negotiated version. TokenError if the token is not a JWT, ConfigError
    if the user name is invalid.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        api_version: str = AUTO,
        known_version: str | None = None,
        on_version: Callable[[str], None] | None = None,
    ) -> None:
        if endpoint.user and not _USER.fullmatch(endpoint.user):
            raise ConfigError(f"Invalid user name {endpoint.user!r}.")
        _check_token(endpoint.token)
        self._endpoint = endpoint
        self.user = endpoint.user
        self._api = VersionNegotiation(
            endpoint.url,
            self._transport,
            api_version=api_version,
            known_version=known_version,
            on_version=on_version,
        )

    def __repr__(self) -> str:
        return f"SlurmrestClient({self._endpoint.url!r}, {self.user!r})"

    def __enter__(self) -> SlurmrestClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request reopens it."""
        self._api.close()

    @property
    def api_version(self) -> str:
        """The API version, such as "v0.0.39"; negotiated if not known yet."""
        return self._api.adapter.version

    def ping(self) -> None:
        """Ping slurmctld; UnreachableError or TokenError on failure."""
        body = self._api.ask("{control}/ping", "the ping").body
        pings = body.get("pings") or []
        if pings and not any(answers(entry) for entry in pings):
            # 24.11 and 26.05 report a refused token in the same way
            response = self._api.request("GET", "{control}/job/1")
            if response.kind == "token":
                raise self._api.to_error(response, "the ping")
            raise UnreachableError(
                "C2's slurmrestd answers, but its slurmctld does not.", hint="Try again later."
            )

    def submit(self, payload: Mapping[str, Any]) -> Submitted:
        """Submit a canonical (or raw) payload once, adapted to the server's version.

        RefusedError with Slurm's reason, DuplicateError if C2 has a job with the key, UncertainError if the job may
        exist (see `find_by_key`), UnreachableError if it cannot.
        """
        response = self._api.request(
            "POST", SUBMIT, lambda adapter: _encode(adapter.payload(in_environment(payload)))
        )
        if response.job_id is None:
            raise self._api.to_error(response, "the job", submitting=True)
        message = response.body.get("job_submit_user_msg")
        return Submitted(
            response.job_id, list(response.warnings), message if isinstance(message, str) else ""
        )

    def job(self, job_id: int) -> JobInfo:
        """C2's record of a job: slurmctld's, or slurmdbd's after slurmctld has purged it."""
        _refuse_no_id(job_id)
        response = self._api.request("GET", f"{{control}}/job/{job_id:d}")
        if response.kind == "ok" and (records := _records(response)):
            return _latest(self._api.adapter.job(record) for record in records)
        if response.kind not in ("ok", "unknown_job"):
            raise self._api.to_error(response, f"job {job_id}")
        return self._accounted(job_id)

    def tasks(self, job_id: int) -> list[JobInfo]:
        """C2's records of a job or of each array task; pending tasks may share a record."""
        _refuse_no_id(job_id)
        response = self._api.request("GET", f"{{control}}/job/{job_id:d}")
        if response.kind == "ok" and (records := _records(response)):
            return [self._api.adapter.job(record) for record in records]
        if response.kind not in ("ok", "unknown_job"):
            raise self._api.to_error(response, f"job {job_id}")
        return self.accounted_tasks(job_id)

    def jobs(self) -> list[JobInfo]:
        """All jobs of slurmctld. Do not poll this: a job has 6.5 kB, and the request locks slurmctld."""
        response = self._api.ask("{control}/jobs", "the list of jobs")
        return [self._api.adapter.job(record) for record in self._listed(response)]

    def partitions(self) -> dict[str, str]:
        """The state of each partition: UP, DOWN (accepts and holds), DRAIN, INACTIVE; UNKNOWN if C2 reports none."""
        ours = self._api.adapter.has_partition_states
        response = self._api.request("GET", "{control}/partitions", in_fallback=not ours)
        if response.kind == "no_such_path" and not ours:
            response = self._api.request("GET", "{control}/partitions")
        listed = response.body.get("partitions")
        # without slurmdbd the list lacks only billing data (24.11, 26.05)
        if response.kind != "ok" and not (response.kind in WITHOUT_ACCOUNTING and listed):
            raise self._api.to_error(response, "the list of partitions")
        return dict(partition_state(record) for record in listed or [])

    def cancel(self, job_id: int, task: int | None = None) -> list[str]:
        """Cancel a job or an array task; returns C2's warnings, such as that it has already ended.

        UnknownJobError if C2 never had the job, PermissionDeniedError for another center's, RefusedError if C2's API
        version cannot cancel a single task.
        """
        _refuse_no_id(job_id)
        in_fallback = task is not None and not self._api.adapter.cancels_tasks
        if self._api.adapter.cancels_in_silence and (over := self._over_already(job_id)):
            return over
        response = self._api.request(
            "DELETE", f"{{control}}/job/{_named(job_id, task)}", in_fallback=in_fallback
        )
        if in_fallback and response.kind == "no_such_path":
            raise RefusedError(
                f"C2's API version ({self.api_version}) can cancel only all of job {job_id}, not one task.",
                hint=f"Cancel job {job_id} as a whole, or ask C2's operators to serve v0.0.38 as well.",
            )
        if response.kind == "already_over":
            return [response.words]
        if response.kind == "unknown_job":  # slurmctld purges a job some minutes after its end
            job = self._accounted(job_id)
            if task is not None and not job.is_final:
                raise error_for(ClassifiedResponse("unknown_job"), f"task {task} of job {job_id}")
            return [f"The job has already ended: {job.word}."]
        if response.kind != "ok":
            raise self._api.to_error(response, f"job {_named(job_id, task)}")
        return list(response.warnings)

    def update(self, job_id: int, fields: Mapping[str, Any]) -> list[str]:
        """Change fields of a pending job (such as `hold`); returns C2's warnings."""
        _refuse_no_id(job_id)
        response = self._api.request(
            "POST", f"{{control}}/job/{job_id:d}", lambda adapter: _encode(adapter.change(dict(fields)))
        )
        if response.kind not in ("ok", "accepted"):
            raise self._api.to_error(response, f"job {job_id}")
        return list(response.warnings)

    def accounted(self, since: int) -> list[JobInfo]:
        """The center's jobs in C2's accounting that existed after a time (Unix seconds)."""
        query = self._api.adapter.search(self.user, since)
        response = self._api.request("GET", f"{{accounting}}/jobs?{query}".rstrip("?"))
        if response.kind not in ("ok", "unknown_job"):  # 22.05's response if there are no jobs
            raise self._api.to_error(response, "the accounting")
        jobs = [self._api.adapter.accounted(record) for record in _records(response)]
        return [job for job in jobs if job.user == self.user]

    def _over_already(self, job_id: int) -> list[str]:
        """Check that a job exists, is ours and has not ended, where the response to a cancellation does not show it."""
        tasks = self.tasks(job_id)
        if all(task.is_final for task in tasks):
            return [f"The job has already ended: {_latest(tasks).word}."]
        if self.user and any(task.user not in ("", self.user) for task in tasks):
            raise error_for(
                ClassifiedResponse("permission", 2002, "Access/permission denied"), f"job {job_id}"
            )
        return []

    def find_by_key(self, key: str) -> JobInfo | None:
        """The job with this submission key, in slurmctld or slurmdbd (the last 14 days); None if neither has one.

        Raises an error if one of them cannot be queried.
        """
        for job in self.jobs():
            if job.marks.key == key:
                return job
        query = self._api.adapter.search(self.user, int(time.time()) - _LOOK_BACK_S)
        response = self._api.request("GET", f"{{accounting}}/jobs?{query}".rstrip("?"))
        if response.kind == "no_such_path":
            raise UnreachableError(
                "C2 serves no accounting, so it is unknown whether the job was accepted.",
                hint="Ask C2's operators to load slurmrestd's slurmdbd plugin.",
            )
        if response.kind not in ("ok", "unknown_job"):
            raise self._api.to_error(response, "the accounting")
        listed = self._listed(response) if response.kind == "ok" else []
        accounted = [self._api.adapter.accounted(record) for record in listed]
        return next((job for job in reversed(accounted) if job.marks.key == key), None)

    def _listed(self, response: ClassifiedResponse) -> list[dict[str, Any]]:
        """The records of a required list; a response without the list is an error."""
        if not isinstance(response.body.get("jobs"), list):
            raise error_for(ClassifiedResponse("broken", words="no list of jobs"), "the list of jobs")
        return _records(response)

    def _accounted(self, job_id: int) -> JobInfo:
        return _latest(self.accounted_tasks(job_id))

    def accounted_tasks(self, job_id: int) -> list[JobInfo]:
        """Slurmdbd's records of a job or of each array task.

        UnknownJobError if there are none, AccountingAwayError if slurmdbd does not answer.
        """
        _refuse_no_id(job_id)
        try:
            response = self._api.request("GET", f"{{accounting}}/job/{job_id:d}")
            if response.kind not in (
                "ok",
                "unknown_job",
                "no_such_path",
            ):  # C2 may not serve slurmdbd's paths
                raise self._api.to_error(response, f"job {job_id}")
        except AccountingAwayError as error:
            raise AccountingAwayError(
                f"C2's slurmctld no longer knows job {job_id}. {error.message}", hint=error.hint
            ) from error
        except RefusedError as error:
            raise UnreachableError(
                f"C2's slurmctld no longer knows job {job_id}, and C2's accounting does not answer: {error.message}",
                hint="Try again later.",
            ) from error
        records = _records(response)
        if not records:
            raise error_for(ClassifiedResponse("unknown_job"), f"job {job_id}")
        return [self._api.adapter.accounted(record) for record in records]

    def _transport(self) -> Transport:
        from qslurm.slurm.rest.transport import Transport

        return Transport(self._endpoint)


def _refuse_no_id(job_id: int) -> None:
    """UnknownJobError for NO_VAL and INFINITE (slurm.h), which some versions refuse as invalid."""
    if not 0 < job_id < _NO_VAL:
        raise error_for(ClassifiedResponse("unknown_job"), f"job {job_id}")


def _named(job_id: int, task: int | None) -> str:
    return f"{job_id:d}" if task is None else f"{job_id:d}_{task:d}"


def _records(response: ClassifiedResponse) -> list[dict[str, Any]]:
    records = response.body.get("jobs")
    if not isinstance(records, list):
        return []
    return [record for record in records if isinstance(record, dict) and "job_id" in record]


def _latest(jobs: Iterable[JobInfo]) -> JobInfo:
    """The last submitted and started of several records with one id (ids are reused, requeued jobs have several)."""
    return max(jobs, key=lambda job: (job.submit_time or 0, job.start_time or 0))


def _check_token(token: Secret) -> None:
    """TokenError, without the token in it, if it is not a JWT."""
    if not _TOKEN.fullmatch(token.reveal()):
        raise TokenError(
            "The token is not a JSON Web Token.",
            hint="Install the token again, as C2's operators issued it.",
        )


def _encode(payload: Mapping[str, Any]) -> bytes:
    """Encode a payload; InvalidInputError for what JSON or UTF-8 cannot represent."""
    try:
        return json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:  # UnicodeEncodeError is a ValueError
        raise InvalidInputError(f"Cannot encode the payload as JSON: {error}.") from error
