"""The origin of a submission: the batch system's job, its cluster and its user."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote_to_bytes


@dataclass(frozen=True)
class SubmissionOrigin:
    """The origin of a submission. `system` is "slurm" (or another batch system) inside a job, "shell" outside.

    `inside` is the enclosing batch job, if a workflow tool runs in one.
    """

    system: str
    cluster: str = ""
    job_id: str = ""
    user: str = ""
    array_task: str = ""
    account: str = ""
    inside: str = ""

    def format(self) -> str:
        """As in a job's comment: system:cluster:job_id[_array_task][@inside]:user[:account].

        Other characters are percent-encoded (RFC 3986), as UTF-8.
        """
        job = _encoded(self.job_id).replace("@", "%40")
        job += f"_{_encoded(self.array_task)}" if self.array_task else ""
        job += f"@{_encoded(self.inside)}" if self.inside else ""
        parts = [_encoded(self.system), _encoded(self.cluster), job, _encoded(self.user, LONGEST_USER)]
        return ":".join([*parts, _encoded(self.account)] if self.account else parts)


def user_of(origin: str) -> str:
    """The user in an origin; "" if it names none."""
    return _decoded(_parts(origin)[3])


def with_user(origin: str, user: str) -> str:
    """The origin with this user instead of its own; a shell's if it is invalid."""
    system, cluster, job, _, account = _parts(origin)
    parts = [system or "shell", cluster, job, _encoded(user, LONGEST_USER)]
    return ":".join([*parts, account] if account else parts)


def names_of_this_user(environ: Mapping[str, str]) -> set[str]:
    """All names of a process's user in origins: from the batch system, the shell and the system.

    In a job the name is Slurm's, in the center's agent the system's, and these may differ in the domain.
    """
    shell = origin_from_environment({name: environ[name] for name in _USER if name in environ}).user
    return {origin_from_environment(environ).user, shell, _name_of_process()} - {""}


def describe(origin: str) -> str:
    """An origin as text: "slurm job 12_3 on snellius, by alice (account physics)"."""
    system, cluster, place, *who = _parts(origin)
    if not system:
        return ""
    user, account = map(_decoded, who)
    job, _, inside = map(_decoded, place.partition("@"))
    text = f"{system} job {job}" if job else system
    text += f" in job {inside}" if inside else ""
    text += f" on {_decoded(cluster)}" if cluster else ""
    text += f", by {user}" if user else ""
    return f"{text} (account {account})" if account else text


@dataclass(frozen=True)
class System:
    """Environment variables in which a batch system identifies its jobs.

    The first variable that is set counts. `job_id` marks a job of this system, or `mark` if jobs may not know their id.
    """

    name: str
    job_id: tuple[str, ...]
    cluster: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    array_task: tuple[str, ...] = ()
    account: tuple[str, ...] = ()
    mark: tuple[str, ...] = ()
    no_job: tuple[str, ...] = ()
    """Variables that mark a shell rather than a job."""


SYSTEMS: tuple[System, ...] = (
    # Seen in tasks of QCG-PilotJob 0.14.2, which leaves the Slurm job's own variables beside its own.
    System("qcg-pilotjob", job_id=("QCG_PM_STEP_ID",)),
    # Seen in tasks of HyperQueue 0.27.0. A job is an array of tasks; one without an array has task 0.
    System("hyperqueue", job_id=("HQ_JOB_ID",), array_task=("HQ_TASK_ID",)),
    # flux-environment(7): the id is in F58. A batch script knows only its broker's URI, and so does the shell of a
    # `flux proxy` on a login node. `--cc` counts jobs.
    System(
        "flux",
        job_id=("FLUX_JOB_ID",),
        array_task=("FLUX_JOB_CC",),
        mark=("FLUX_URI",),
        no_job=("FLUX_PROXY_REMOTE",),
    ),
    # sbatch(1), "OUTPUT ENVIRONMENT VARIABLES": in an array SLURM_ARRAY_JOB_ID is the id that users know.
    System(
        "slurm",
        job_id=("SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID"),
        cluster=("SLURM_CLUSTER_NAME",),
        user=("SLURM_JOB_USER",),
        array_task=("SLURM_ARRAY_TASK_ID",),
        account=("SLURM_JOB_ACCOUNT",),
    ),
    # qsub(1B), "ENVIRONMENT VARIABLES", and what pbs_mom adds for each job: PBS_JOBID (1234[7].server in an array),
    # PBS_ARRAY_INDEX, PBS_ACCOUNT (of `qsub -A`). After Slurm, whose plugin for PBS scripts sets some of them as well.
    System(
        "openpbs",
        job_id=("PBS_JOBID",),
        user=("PBS_O_LOGNAME",),
        array_task=("PBS_ARRAY_INDEX",),
        account=("PBS_ACCOUNT",),
    ),
)
"""Batch systems, in order of detection: systems that start jobs inside others come first."""

_USER = ("USER", "LOGNAME")

LONGEST_USER = 600
"""Maximum characters of a user; Linux allows 255 bytes, a comment 1024."""

_SAFE = re.compile(r"[A-Za-z0-9_.@+-]*")


def origin_from_environment(environ: Mapping[str, str], user: str = "") -> SubmissionOrigin:
    """The origin of a process with this environment; `user` overrides the environment's."""
    found = [_of_system(system, environ) for system in SYSTEMS if _is_inside(system, environ)]
    if not found:
        return SubmissionOrigin("shell", user=user or _first(environ, _USER))
    inner, outer = found[0], found[-1]
    if len(found) > 1 and outer.job_id and not _is_the_same(inner, outer):
        task = f"_{outer.array_task}" if outer.array_task else ""
        inner = replace(
            inner,
            cluster=inner.cluster or outer.cluster,
            account=inner.account or outer.account,
            user=inner.user or outer.user,
            inside=outer.job_id + task,
        )
    return replace(inner, user=user or inner.user or _first(environ, _USER))


def _is_the_same(inner: SubmissionOrigin, outer: SubmissionOrigin) -> bool:
    """Whether these are one job: Slurm's plugin for PBS scripts sets both systems' variables."""
    return (inner.system, outer.system) == ("slurm", "openpbs") and inner.job_id == outer.job_id


def of_process(environ: Mapping[str, str]) -> SubmissionOrigin:
    """The origin of this process; the user comes from the system if the batch system names none."""
    origin = origin_from_environment(environ)
    return origin if origin.user else replace(origin, user=_name_of_process())


def _name_of_process() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        return ""


def slurm_job(environ: Mapping[str, str]) -> str:
    """The Slurm job of a process with this environment, as `cluster:12_3:0`, or "".

    The last number says how often the job was restarted.
    """
    job_id, cluster = environ.get("SLURM_JOB_ID"), environ.get("SLURM_CLUSTER_NAME")
    if not job_id or not cluster:
        return ""
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    shown = f"{array}_{task}" if array and task else job_id
    run = f"{shown}:{environ.get('SLURM_RESTART_COUNT') or 0}"
    return f"{_plain(cluster)}:{run}" if re.fullmatch(r"[0-9]+(_[0-9]+)?:[0-9]+", run) else ""


def _is_inside(system: System, environ: Mapping[str, str]) -> bool:
    """Whether a process with this environment is part of a job of this system."""
    return bool(
        _first(environ, system.job_id)
        or (_first(environ, system.mark) and not _first(environ, system.no_job))
    )


def _of_system(system: System, environ: Mapping[str, str]) -> SubmissionOrigin:
    job_id, cluster = _first(environ, system.job_id), _first(environ, system.cluster)
    if system.name == "openpbs":  # 1234.server, and 1234[7].server for one of an array
        job_id, _, cluster = job_id.partition(".")
        job_id = job_id.partition("[")[0]
    return SubmissionOrigin(
        system.name,
        cluster,
        job_id.replace("\N{LATIN SMALL LETTER F WITH HOOK}", "f"),  # Flux's own way to write it in ASCII
        _first(environ, system.user),
        _first(environ, system.array_task),
        _first(environ, system.account).replace("(null)", ""),
    )


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")


def _plain(text: str) -> str:
    """A cluster's name in safe characters, at most 64."""
    return re.sub(r"[^A-Za-z0-9_.@+-]", "_", text)[:64]


def _encoded(text: str, most: int = 64) -> str:
    """A part of an origin in safe characters, at most this many."""
    if not _SAFE.fullmatch(text):
        text = quote(os.fsencode(text), safe="@+").replace(
            "~", "%7E"
        )  # the rest that it leaves is safe as well
    return text if len(text) <= most else re.sub("%.?$", "", text[:most])


def _parts(origin: str) -> list[str]:
    """System, cluster, job, user and account of an origin, encoded; "" for missing ones."""
    return [*origin.split(":"), "", "", "", "", ""][:5]


def _decoded(part: str) -> str:
    """Decode a part of an origin; older ones without percent signs are unchanged."""
    return os.fsdecode(unquote_to_bytes(part)) if "%" in part else part
