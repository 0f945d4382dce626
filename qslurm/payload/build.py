"""Builds the payload of a job: rendered from a template, or as its user wrote it, and validated.

In a payload's template every expression becomes JSON, in a script's template one word of the shell, so that authors of
templates need not escape anything. The script is rendered first; the payload's template has it as `script`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qslurm.errors import InvalidInputError
from qslurm.payload.comment import Comment
from qslurm.payload.envelope import Envelope, SourceFile, pack
from qslurm.payload.fast_render import NeedsJinjaError, names_in_plain, render_plain
from qslurm.payload.raw import parse_payload
from qslurm.payload.spec import JobSpec, job_options
from qslurm.payload.templates import Template, find_template, shipped_folder
from qslurm.payload.validate import validate

CLEAN_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
"""A job's default environment; C2's hooks add what the job step needs."""

HANDS_OVER = "QSLURM_HANDS_OVER=1"
"""Environment of circuit and hybrid jobs, whose script only starts the job step."""

_NEVER_EXPORTED = (
    *("SLURM_", "SBATCH_", "SALLOC_", "SRUN_", "SLURMD_", "QSLURM_TOKEN"),
    *("PBS_", "FLUX_", "HQ_", "QCG_PM_"),
)


def payload_of(job: JobSpec, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """The validated payload of a job. Templates are searched in `folders` first.

    InvalidInputError names the option, or else the field, that is invalid.
    """
    if job.kind == "payload":
        from qslurm.payload.raw import with_key

        payload = parse_payload(job.source or "", str(job.file))
        payload = with_key(payload, Comment(key=job.key, origin=job.origin))
        validate(payload)
        return payload
    payload = render(job, folders)
    _refuse_lost_options(job, payload)
    validate(payload, _options_by_path(payload, job))
    return payload


def _options_by_path(payload: Mapping[str, Any], job: JobSpec) -> dict[str, str]:
    """The options that fields of a rendered payload come from, by path."""
    job_fields = payload.get("job")
    fields: Mapping[str, Any] = job_fields if isinstance(job_fields, dict) else {}
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
    """InvalidInputError for an option that affects the job's start and is missing in its template's payload."""
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


def render(spec: JobSpec, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """The payload of a job, not validated: {"job": {…}, "script": "…"}.

    Its template (None: that of its kind) is searched in `folders`, then among the shipped ones. InvalidInputError for
    its errors, with file, line and name.
    """
    chosen = find_template(spec.template or spec.kind or "", folders)
    names = variables(spec)
    names["script"] = _script(spec, chosen, names, folders)
    text = _text(chosen.payload, names, as_json)
    payload = parse_payload(text, f"{chosen.payload.name} as rendered")
    _refuse_unused(spec, chosen, names, folders)
    return payload


def variables(spec: JobSpec) -> dict[str, Any]:
    """The variables of a template: the job's fields and the user's variables."""
    note = " ".join((spec.comment or "").split())
    comment = Comment(spec.key, spec.kind or "", spec.backend or "", spec.origin, spec.sweep_text, note)
    own: dict[str, Any] = {
        "kind": spec.kind,
        "source": spec.source,
        "file": spec.file_name,
        "name": spec.job_name,
        "backend": spec.backend or "",
        "partition": spec.target,
        "shots": spec.shots,
        "seed": spec.seed,
        "raw_data": spec.raw_data,
        "qpu_seconds": spec.qpu_seconds,
        "time_limit_minutes": _minutes(spec.time_limit) if spec.time_limit else None,
        "account": spec.account,
        "qos": spec.qos,
        "reservation": spec.reservation,
        "dependency": spec.dependency,
        "array": spec.indices or None,
        "begin_time": _begin_time(spec.begin) if spec.begin else None,
        "hold": spec.hold,
        "workdir": spec.workdir,
        "environment": ([] if spec.kind == "script" else [HANDS_OVER]) + environment(spec.environment),
        "comment": comment.format(),
        "key": spec.key,
        "origin": spec.origin,
    }
    if taken := sorted(set(spec.variables) & (set(own) | {"script"})):
        raise InvalidInputError(
            f"{', '.join(taken)} cannot be a template variable: the name is reserved.",
            hint="Use another name.",
        )
    return {**own, **spec.variables}


def _minutes(time_limit: str) -> int:
    from qslurm.payload.times import parse_time_limit

    return parse_time_limit(time_limit)


def _begin_time(begin: str) -> int:
    from datetime import datetime

    from qslurm.payload.times import parse_begin

    return parse_begin(begin, datetime.now())


def environment(variables: Mapping[str, str]) -> list[str]:
    """The job's environment: a clean one and `variables`. Variables of this host's batch system are refused."""
    if wrong := sorted(name for name in variables if name.startswith(_NEVER_EXPORTED)):
        raise InvalidInputError(
            f"{', '.join(wrong)} cannot be exported to the job.",
            hint="Variables of this host's batch system and tokens are never sent to C2.",
        )
    return [f"{name}={value}" for name, value in {**CLEAN_ENVIRONMENT, **variables}.items()]


def _script(spec: JobSpec, chosen: Template, names: Mapping[str, Any], folders: Sequence[Path]) -> str:
    """The batch script; the data of a circuit or hybrid job is its last line."""
    file = _script_file(spec, chosen, folders)
    text = spec.source or "" if file is None else _text(file, names, as_words)
    if spec.kind not in ("circuit", "hybrid", "session"):
        return text
    envelope = Envelope(
        kind=spec.kind,
        source=spec.source or "",
        file=spec.file_name,
        shots=spec.shots,
        seed=spec.seed,
        raw_data=spec.raw_data,
        qpu_seconds=spec.qpu_seconds,
        parameters=dict(spec.parameters),
        sweep=spec.sweep_text,
        sources=[SourceFile(file, source) for file, source in spec.sources],
        session=spec.session,
        idle_limit_s=spec.idle_limit_s,
    )
    return f"{text.rstrip()}\n{pack(envelope)}\n"


def _script_file(spec: JobSpec, chosen: Template, folders: Sequence[Path]) -> Path | None:
    if chosen.script is None and spec.kind != "script":
        return find_template(spec.kind or "", folders).script
    return chosen.script


def _refuse_unused(
    spec: JobSpec, chosen: Template, names: Mapping[str, Any], folders: Sequence[Path]
) -> None:
    """Refuse variables that the template does not use, as typing errors."""
    if not spec.variables:
        return
    files = [chosen.payload, _script_file(spec, chosen, folders)]
    used = [_names_in(file) for file in files if file is not None]
    if None in used:
        return
    wanted = frozenset[str]().union(*(one for one in used if one is not None))
    for name in spec.variables:
        if name not in wanted and name not in spec.parameters:
            own = sorted(wanted - names.keys() | wanted & spec.variables.keys())
            near = difflib.get_close_matches(name, own, n=1)
            known = f"Its variables: {', '.join(own)}." if own else "It has no variables."
            raise InvalidInputError(
                f"Template {chosen.name} has no variable {name!r}.",
                hint=f"Did you mean {near[0]}?" if near else known,
            )


def _text(file: Path, names: Mapping[str, Any], escape: Callable[[object], str]) -> str:
    """Render a template, with Jinja only if needed."""
    try:
        return render_plain(file, (file.parent, shipped_folder()), names, escape)
    except (NeedsJinjaError, InvalidInputError):
        from qslurm.payload.jinja_render import render_file

        return render_file(file, names, escape)


def _names_in(file: Path) -> frozenset[str] | None:
    try:
        return names_in_plain(file, (file.parent, shipped_folder()))
    except NeedsJinjaError:
        from qslurm.payload.jinja_render import names_in

        return names_in(file)


def as_json(value: object) -> str:
    """Format a value as JSON."""
    try:
        return json.dumps(value, allow_nan=False, default=_json_default)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"Cannot encode a template's value as JSON: {error}.") from error


def as_words(value: object) -> str:
    """Quote a value as one shell word, a list as one word per item."""
    if isinstance(value, list | tuple):
        return " ".join(as_words(member) for member in value)
    if not isinstance(value, str | int | float):
        raise InvalidInputError(f"A value of type {type(value).__name__} cannot be written into a script.")
    text = str(value)
    if "\0" in text:
        raise InvalidInputError("A template's value contains a NUL character, which scripts cannot contain.")
    return "".join(_escaped(character) for character in text) or "''"


def _escaped(character: str) -> str:
    """Quote a character so that bash takes it literally, even within quotes or a comment."""
    if character.isalnum() or character in "_-./:,@%+=":
        return character
    if character < " " or character == "\x7f":
        return f"$'\\x{ord(character):02x}'"
    return f"\\{character}"


def _json_default(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__}")
