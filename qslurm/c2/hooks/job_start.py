"""Parses what Slurm passes to a hook about a job's start, and builds the request to admit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from qslurm.c2.config.file import C2Config, backend_of
from qslurm.errors import InvalidInputError, QslurmError
from qslurm.payload.comment import Comment
from qslurm.payload.envelope import unpack
from qslurm.payload.handover import form_of
from qslurm.protocol.messages import Admit


class JobStart(msgspec.Struct, frozen=True, kw_only=True):
    """One start of a job, from a hook's environment."""

    job_id: int
    restart: int
    user: str
    uid: int
    account: str
    partition: str
    name: str
    comment: Comment
    array_job: int | None = None
    array_task: int | None = None

    @property
    def slurm_id(self) -> str:
        """The job's id, 12_3 for an array task: the array's last task to start has the array's own job id."""
        return f"{self.job_id}" if self.array_task is None else f"{self.array_job}_{self.array_task}"


class UnrunnableJobError(QslurmError):
    """The job can never run: it is cancelled, with this reason."""


def read_start(environment: Mapping[str, str]) -> JobStart:
    """The job start in a hook's environment; QslurmError if it was not called by slurmctld."""
    try:
        return JobStart(
            job_id=int(environment["SLURM_JOB_ID"]),
            restart=int(environment.get("SLURM_JOB_RESTART_COUNT", "0")),
            user=environment["SLURM_JOB_USER"],
            uid=int(environment["SLURM_JOB_UID"]),
            account=environment.get("SLURM_JOB_ACCOUNT", "").replace("(null)", ""),
            partition=environment["SLURM_JOB_PARTITION"],
            name=environment.get("SLURM_JOB_NAME", "")[:200],
            comment=_of_task(
                Comment.parse(environment.get("SLURM_JOB_COMMENT", "")),
                _number(environment.get("SLURM_ARRAY_TASK_ID")),
            ),
            array_job=_number(environment.get("SLURM_ARRAY_JOB_ID")),
            array_task=_number(environment.get("SLURM_ARRAY_TASK_ID")),
        )
    except (KeyError, ValueError) as error:
        raise QslurmError(
            f"Not called as a Slurm hook: {error}.",
            hint="Set it as PrologSlurmctld and EpilogSlurmctld in slurm.conf; see deploy/c2.",
        ) from error


def _number(text: str | None) -> int | None:
    return int(text) if text else None


def with_marks(start: JobStart, marks: Comment) -> JobStart:
    """The start with marks from the copy of the job's comment, for a comment that was overwritten."""
    return msgspec.structs.replace(start, comment=_of_task(marks, start.array_task))


def _of_task(comment: Comment, index: int | None) -> Comment:
    """A task's comment: all tasks of an array share one, so the key gets the task's index."""
    if not comment.key or index is None:
        return comment
    return replace(comment, key=f"{comment.key}#{index}")  # no key that qslurm gives has a #


def center_of(user: str, prefix: str) -> str:
    """The center of a Slurm user; UnrunnableJobError if it belongs to none."""
    center = user.removeprefix(prefix)
    if not center or not user.startswith(prefix):
        raise UnrunnableJobError(
            f"User {user} does not belong to a center: center users start with {prefix!r}."
        )
    return center


def admit_request(start: JobStart, script: str, config: C2Config) -> Admit:
    """The request to admit a job with this batch script. The backend is the partition's, whatever the comment says.

    UnrunnableJobError for a kind of job that the center may not send, and for a script that must be confined and
    would not be.
    """
    center = center_of(start.user, config.slurm.user_prefix)
    form = form_of(script, config.runtimes.step)
    try:
        envelope = unpack(script) if form == "handover" else None
        has_own_file = envelope is not None and bool(envelope.sources)
        envelope = envelope.of_task(start.array_task) if envelope else None
    except InvalidInputError as error:
        raise UnrunnableJobError(error.message) from error
    kind = "script" if envelope is None else envelope.kind
    if kind not in (allowed := config.kinds_of(center)):
        raise UnrunnableJobError(
            f"C2 does not accept {kind} jobs from center {center}. Accepted: {', '.join(allowed)}."
        )
    if form == "bare" and config.runtimes.confines_scripts:
        raise UnrunnableJobError(
            "C2 confines scripts, and this job did not pass through C2's job_submit.lua. Submit it again."
        )
    admit = Admit(
        job_id=start.job_id,
        restart=start.restart,
        user=start.user,
        uid=start.uid,
        account=start.account,
        center=center,
        backend=backend_of(start.partition),
        kind=kind,
        name=Path(envelope.file).stem[:200] if envelope and has_own_file else start.name,
        key=start.comment.key,
        origin=start.comment.origin,
        envelope=envelope,
    )
    try:
        msgspec.msgpack.encode(admit)
    except (OverflowError, UnicodeError) as error:  # it would fail at each start
        raise UnrunnableJobError(f"Cannot send the job's payload to the dispatcher: {error}.") from error
    return admit
