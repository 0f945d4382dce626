"""The payload of a job, whoever submits it: rendered from a template or as its user wrote it, and validated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qslurm.errors import InvalidInputError
from qslurm.payload.comment import Comment
from qslurm.payload.render import render
from qslurm.payload.spec import JobSpec, job_options
from qslurm.payload.validate import validate


def payload_of(job: JobSpec, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """The payload as slurmrestd takes it; templates are looked for in `folders` first.

    InvalidInputError says what is wrong, by the name of the option where there is one.
    """
    if job.kind == "payload":
        from qslurm.payload.raw import parse_payload, with_key

        payload = parse_payload(job.source or "", str(job.file))
        payload = with_key(payload, Comment(key=job.key, origin=job.origin))
        validate(payload)
        return payload
    payload = render(job, folders)
    _refuse_lost_options(job, payload)
    validate(payload, _options_of(payload, job))
    return payload


def _options_of(payload: Mapping[str, Any], job: JobSpec) -> dict[str, str]:
    """The fields of a payload that we have made, and the options that have given them their values."""
    made = payload.get("job")
    fields: Mapping[str, Any] = made if isinstance(made, dict) else {}
    options: dict[str, str] = {}
    for one in job_options().values():
        if one.option.slurm:
            options.setdefault(f"job.{one.option.slurm}", f"--{one.name}")
    environment = fields.get("environment")
    for index, entry in enumerate(environment if isinstance(environment, list) else ()):
        name = str(entry).partition("=")[0]
        if name in job.environment:
            options[f"job.environment[{index}]"] = f"--export {name}"
    return options


def _refuse_lost_options(job: JobSpec, payload: Mapping[str, Any]) -> None:
    """InvalidInputError for an option that would change when a job runs, and that its template leaves out."""
    made = payload.get("job")
    for one in job_options().values():
        field = one.option.slurm
        if (
            one.option.decides_start
            and getattr(job, one.field)
            and isinstance(made, dict)
            and not made.get(field)
        ):
            raise InvalidInputError(
                f"The template {job.template or job.kind} leaves out --{one.name}.",
                hint=f"Give its payload a field {field}, or include _job.j2 as the shipped templates do.",
            )
