"""The client: which request to send, and what its answer means to the caller."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qslurm.errors import (
    ConfigError,
    QslurmError,
    RefusedError,
    TokenError,
    UncertainError,
    UnreachableError,
)
from qslurm.slurmrest.adapters import ADAPTERS, AUTO, Adapter, parse_version
from qslurm.slurmrest.jobinfo import JobInfo, partition_state
from qslurm.slurmrest.refusals import error_for
from qslurm.slurmrest.verdict import Verdict, classify
from qslurm.slurmrest.wire import check_token, encode
from qslurm.tokens.secret import Secret

if TYPE_CHECKING:
    from qslurm.slurmrest.transport import Transport

_USER = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_LOOK_BACK_S = 14 * 24 * 3600
"""How far back slurmdbd is searched for a key."""


@dataclass(frozen=True)
class Submitted:
    """A job that C2 accepted. `warnings` are Slurm's, `message` is what C2's submit plugin had to say."""

    job_id: int
    warnings: list[str] = field(default_factory=list)
    message: str = ""


class SlurmrestClient:
    """One center's way to one C2. Keeps a connection; thread-confined.

    `url` is slurmrestd's (`https://host:port`), `user` the center's Slurm user on C2, `token` its JWT, which
    appears in no text. `api_version` is "auto", or a version in any of its spellings; with "auto"
    `known_version`, remembered from an earlier time, is tried first. `timeout_s` is how long an answer may
    take to begin: slurmrestd gives up on its slurmctld after 10 s, so less than that turns answers into
    doubts. Proxies and `.netrc` of the environment are ignored: a token goes where the configuration says,
    and nowhere else; a proxy is given as `proxy`. `on_version` is told the version that was found by asking.
    """

    def __init__(
        self,
        url: str,
        user: str,
        token: str | Secret,
        *,
        api_version: str = AUTO,
        timeout_s: float = 30.0,
        known_version: str | None = None,
        ca_file: str | None = None,
        proxy: str | None = None,
        on_version: Callable[[str], None] | None = None,
    ) -> None:
        if user and not _USER.fullmatch(user):
            raise ConfigError(f"{user!r} can't be a user's name on C2.")
        self.url = url
        self.user = user
        self.timeout_s = timeout_s
        self._token = check_token(token)
        self._ca_file, self._proxy, self._on_version = ca_file, proxy, on_version
        asked = parse_version(api_version)
        self._adapter = ADAPTERS.get(asked)
        self._negotiable = asked == AUTO
        if self._adapter is None and known_version in ADAPTERS:
            self._adapter = ADAPTERS[known_version]
        self._transport: Transport | None = None

    def __repr__(self) -> str:
        return f"SlurmrestClient({self.url!r}, {self.user!r})"

    def __enter__(self) -> SlurmrestClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connection; the next request opens another."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    @property
    def api_version(self) -> str:
        """The version spoken, such as "v0.0.39"; asks the server when nobody knows it yet."""
        return self._spoken().version

    def ping(self) -> None:
        """Ask slurmctld for a sign of life; UnreachableError or TokenError when there is none."""
        body = self._ask("GET", "{control}/ping", "the ping").body
        pings = body.get("pings") or []
        if pings and not any(entry.get("pinged", entry.get("ping")) == "UP" for entry in pings):
            raise UnreachableError(
                "C2's slurmrestd answers, but no slurmctld behind it.", hint="Try again later."
            )

    def submit(self, payload: Mapping[str, Any]) -> Submitted:
        """Submit a canonical (or raw) payload, once, adapted to the server's version.

        RefusedError with Slurm's reason, DuplicateError for a key that C2 knows, UncertainError when the job
        may or may not exist (look with `find_by_key`), UnreachableError when it can't.
        """
        verdict = self._submit_once(payload)
        if verdict.kind == "no_such_path" and self._negotiable:  # another slurmrestd than the remembered one
            self._adapter = None
            verdict = self._submit_once(payload)
        if verdict.job_id is None:
            raise self._explained(verdict, "the job", submitting=True)
        message = verdict.body.get("job_submit_user_msg")
        return Submitted(verdict.job_id, list(verdict.warnings), message if isinstance(message, str) else "")

    def job(self, job_id: int) -> JobInfo:
        """What C2 knows of a job: slurmctld's record, or slurmdbd's when slurmctld has forgotten it."""
        verdict = self._try("GET", f"{{control}}/job/{job_id:d}")
        if verdict.kind == "ok" and (records := _records(verdict)):
            return _latest(self._spoken().job(record) for record in records)
        if verdict.kind not in ("ok", "unknown_job"):
            raise self._explained(verdict, f"job {job_id}")
        return self._accounted(job_id)

    def tasks(self, job_id: int) -> list[JobInfo]:
        """What C2 knows of a job, or of each task of an array; tasks that wait may share one record."""
        verdict = self._try("GET", f"{{control}}/job/{job_id:d}")
        if verdict.kind == "ok" and (records := _records(verdict)):
            return [self._spoken().job(record) for record in records]
        if verdict.kind not in ("ok", "unknown_job"):
            raise self._explained(verdict, f"job {job_id}")
        return self.accounted_tasks(job_id)

    def jobs(self) -> list[JobInfo]:
        """The jobs that slurmctld knows. Each costs 6.5 kB and a moment of its lock: don't poll with it."""
        verdict = self._ask("GET", "{control}/jobs", "the list of jobs")
        return [self._spoken().job(record) for record in _records(verdict)]

    def partitions(self) -> dict[str, str]:
        """The state of each partition: UP, DOWN (accepts and holds), DRAIN, INACTIVE."""
        verdict = self._ask("GET", "{control}/partitions", "the list of partitions")
        return dict(partition_state(record) for record in verdict.body.get("partitions") or [])

    def cancel(self, job_id: int, task: int | None = None) -> list[str]:
        """Cancel a job, or one task of an array; gives back C2's warnings, that it is over already for one.

        UnknownJobError for a job that C2 never had, PermissionDeniedError for another center's.
        """
        verdict = self._try("DELETE", f"{{control}}/job/{_named(job_id, task)}")
        if verdict.kind == "already_over":
            return [verdict.words]
        if verdict.kind == "unknown_job":  # slurmctld forgets a job some minutes after its end
            job = self._accounted(job_id)
            return [f"The job is over: {job.word}."]
        if verdict.kind != "ok":
            raise self._explained(verdict, f"job {_named(job_id, task)}")
        return list(verdict.warnings)

    def update(self, job_id: int, fields: Mapping[str, Any]) -> list[str]:
        """Give a job that waits other values for some of its fields (`hold`, for one); C2's warnings."""
        verdict = self._send("POST", self._filled(f"{{control}}/job/{job_id:d}"), encode(fields))
        if verdict.kind not in ("ok", "accepted"):
            raise self._explained(verdict, f"job {job_id}")
        return list(verdict.warnings)

    def accounted(self, since: int) -> list[JobInfo]:
        """The center's jobs that C2's accounting knows, as far as they were there after a time (Unix seconds)."""
        query = self._spoken().search(self.user, since)
        verdict = self._ask("GET", f"{{accounting}}/jobs?{query}".rstrip("?"), "the accounting")
        jobs = [self._spoken().accounted(record) for record in _records(verdict)]
        return [job for job in jobs if job.user == self.user]

    def find_by_key(self, key: str) -> JobInfo | None:
        """The job submitted under this key, asked of slurmctld, then of slurmdbd (14 days back); None if
        there is none.

        Only None from both says that the job does not exist; what can't be asked raises.
        """
        for job in self.jobs():
            if job.marks.key == key:
                return job
        query = self._spoken().search(self.user, int(time.time()) - _LOOK_BACK_S)
        verdict = self._try("GET", f"{{accounting}}/jobs?{query}".rstrip("?"))
        if verdict.kind == "no_such_path":
            raise UnreachableError(
                "C2 serves no accounting, so nobody can say whether the job was accepted.",
                hint="Ask C2's operators to load slurmrestd's slurmdbd plugin.",
            )
        if verdict.kind not in ("ok", "unknown_job"):
            raise self._explained(verdict, "the accounting")
        accounted = [self._spoken().accounted(record) for record in _records(verdict)]
        return next((job for job in reversed(accounted) if job.marks.key == key), None)

    def _accounted(self, job_id: int) -> JobInfo:
        return _latest(self.accounted_tasks(job_id))

    def accounted_tasks(self, job_id: int) -> list[JobInfo]:
        """What slurmdbd knows of a job, or of each task of an array; UnknownJobError if nothing."""
        try:
            verdict = self._try("GET", f"{{accounting}}/job/{job_id:d}")
            if verdict.kind not in ("ok", "unknown_job", "no_such_path"):  # a C2 may serve no accounting
                raise self._explained(verdict, f"job {job_id}")
        except (UnreachableError, RefusedError) as error:
            raise UnreachableError(
                f"C2's slurmctld no longer knows job {job_id}, and its accounting does not answer.",
                hint="Try again later.",
            ) from error
        records = _records(verdict)
        if not records:
            raise error_for(Verdict("unknown_job"), f"job {job_id}")
        return [self._spoken().accounted(record) for record in records]

    def _submit_once(self, payload: Mapping[str, Any]) -> Verdict:
        spoken = self._spoken()
        return self._send("POST", f"{spoken.control}/job/submit", encode(spoken.payload(dict(payload))))

    def _ask(self, method: str, path: str, what: str) -> Verdict:
        """The good answer to a question; the error it stands for otherwise."""
        verdict = self._try(method, path)
        if verdict.kind != "ok":
            raise self._explained(verdict, what)
        return verdict

    def _try(self, method: str, path: str) -> Verdict:
        verdict = self._send(method, self._filled(path))
        if verdict.kind == "no_such_path" and self._negotiable and path.startswith("{control}"):
            self._adapter = None
            verdict = self._send(method, self._filled(path))
        return verdict

    def _filled(self, path: str) -> str:
        spoken = self._spoken()
        return path.format(control=spoken.control, accounting=spoken.accounting)

    def _spoken(self) -> Adapter:
        if self._adapter is None:
            self._adapter = self._negotiated()
        return self._adapter

    def _negotiated(self) -> Adapter:
        """The newest version that both sides speak, found by pinging."""
        for adapter in ADAPTERS.values():
            verdict = self._send("GET", f"{adapter.control}/ping")
            if verdict.kind == "ok":
                if self._on_version is not None:
                    self._on_version(adapter.version)
                return adapter
            if verdict.kind != "no_such_path":
                raise self._explained(verdict, "the ping", adapter=adapter)
        raise UnreachableError(
            f"C2's slurmrestd at {self.url} speaks none of the API versions {', '.join(ADAPTERS)}.",
            hint="Ask C2's operators which it speaks; a newer qslurm may know it.",
        )

    def _send(self, method: str, path: str, body: bytes | None = None) -> Verdict:
        if self._transport is None:
            from qslurm.slurmrest.transport import Transport

            self._transport = Transport(
                self.url,
                self.user,
                self._token,
                timeout_s=self.timeout_s,
                ca_file=self._ca_file,
                proxy=self._proxy,
            )
        answer = self._transport.send(method, path, body, submitting=path.endswith("/job/submit"))
        return classify(answer.status, answer.content_type, answer.body)

    def _explained(
        self, verdict: Verdict, what: str, *, submitting: bool = False, adapter: Adapter | None = None
    ) -> QslurmError:
        """The error, after asking slurmdbd when a refused token and a silent slurmctld look alike (22.05)."""
        if verdict.kind in ("token_or_silence", "token_or_cut"):
            refused = self._token_is_refused(adapter or self._spoken())
            if refused:
                return TokenError("C2 refused the token.", hint=error_for(Verdict("token"), what).hint)
            if refused is False and submitting:
                return UncertainError(
                    f"C2's slurmctld broke off in the middle of the submission: {verdict.words}.",
                    hint="The job may be there: look with `qslurm queue` before you submit it again.",
                )
            if refused is False:
                return error_for(Verdict("token_or_silence"), what)
            if verdict.kind == "token_or_silence":
                return UnreachableError(
                    "C2's Slurm does not answer its slurmrestd, or refused the token without saying so.",
                    hint="Look at the token with `qslurm token check`; if it is good, try again later.",
                )
        return error_for(verdict, what, submitting=submitting)

    def _token_is_refused(self, adapter: Adapter) -> bool | None:
        """Whether slurmdbd refuses the token, which it says clearly (1007); None when it can't be asked."""
        try:
            verdict = self._send("GET", f"{adapter.accounting}/job/1")
        except UnreachableError:
            return None
        return {"token": True, "ok": False}.get(verdict.kind)


def _named(job_id: int, task: int | None) -> str:
    return f"{job_id:d}" if task is None else f"{job_id:d}_{task:d}"


def _records(verdict: Verdict) -> list[dict[str, Any]]:
    records = verdict.body.get("jobs")
    if not isinstance(records, list):
        return []
    return [record for record in records if isinstance(record, dict) and "job_id" in record]


def _latest(jobs: Iterable[JobInfo]) -> JobInfo:
    """Of several records of one id (ids are reused, requeued jobs counted twice) the one submitted and
    started last.
    """
    return max(jobs, key=lambda job: (job.submit_time or 0, job.start_time or 0))
