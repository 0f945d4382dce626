"""Reads a job: its file, and the options in the file's `#QSLURM` lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from qslurm.c1.submission.job_files import (
    NAMES,
    SUFFIXES,
    kind_of,
    kind_of_text,
    read_source,
    read_stdin,
)
from qslurm.errors import InvalidInputError
from qslurm.payload.spec import JobSpec, job_options
from qslurm.system.encoding_errors import without_surrogates

STDIN = Path("-")
"""The file name of a job on stdin, as for sbatch."""

ANY = "any"
"""The backend name for any backend that fits."""


def ignore_remark(_: str) -> None:
    """Discard a remark."""


def read(job: JobSpec, remark: Callable[[str], None] = ignore_remark) -> JobSpec:
    """The job with its file read, and with the options in the file; unchanged if it was read before.

    InvalidInputError for an unreadable or invalid file. `remark` gets notes about likely mistakes.
    """
    if job.kind is not None:
        return job
    job = _with_source(job)
    if job.kind != "payload":
        job = with_directives(job, remark)
    refuse_empty(job)
    return job


def _with_source(job: JobSpec) -> JobSpec:
    if job.source is not None or job.file == STDIN:
        text = read_stdin() if job.source is None else job.source
        kind = kind_of_text(text)
        return msgspec.structs.replace(job, source=text, file=Path(NAMES[kind]), kind=kind)
    if job.file is not None:
        text = read_source(job.file)
        return msgspec.structs.replace(job, source=text, kind=kind_of(job.file, text))
    if job.template is not None:
        return msgspec.structs.replace(job, source="", kind="script")
    raise InvalidInputError("No file given.", hint="Give FILE, `-` for stdin, or --template NAME.")


def refuse_empty(job: JobSpec) -> None:
    """InvalidInputError for an option with an empty value, for example from an unset shell variable.

    It would count as not given: a job with an empty dependency would start at once.
    """
    for one in job_options().values():
        if getattr(job, one.field) == "" and not one.option.may_be_empty:
            raise InvalidInputError(f"--{one.name} is empty.", hint="Give it a value, or omit it.")


def with_directives(job: JobSpec, remark: Callable[[str], None] = ignore_remark) -> JobSpec:
    """The job, with the options in its file's `#QSLURM` lines that were not given."""
    text = job.source or ""
    remark_ignored_lines(text, job, remark)
    if "#QSLURM" not in text:
        return job
    from qslurm.c1.submission.directives import read_directives

    directives = read_directives(text, str(job.file), remark)
    is_other_platform = job.platform and directives.get("platform", job.platform) != job.platform
    if job.backend or job.partition or is_other_platform:  # the file's backend or partition does not apply
        directives = {
            name: value for name, value in directives.items() if name not in ("backend", "partition")
        }
    variables = {**variables_of(directives.pop("variables", ())), **job.variables}
    applied: dict[str, Any] = {
        name: value for name, value in directives.items() if not is_given(getattr(job, name))
    }
    return msgspec.structs.replace(job, variables=variables, **applied)


def is_given(value: object) -> bool:
    """Whether an option was given; 0 and an empty text count as given."""
    return not (value is None or value is False or value in ((), {}))


def remark_ignored_lines(script: object, job: JobSpec, remark: Callable[[str], None]) -> None:
    """Report `#SBATCH` lines, and `#QSLURM` lines in a payload's script: they are not read."""
    words = ("#SBATCH", "#QSLURM") if job.kind == "payload" else ("#SBATCH",)
    if not isinstance(script, str) or not re.search(rf"^({'|'.join(words)})\s", script, re.MULTILINE):
        return
    instead = "set the fields of its job" if job.kind == "payload" else "use #QSLURM lines"
    remark(f"{job.file}: C2 does not read its {' and '.join(words)} lines; {instead}.")


def variables_of(pairs: Iterable[str]) -> dict[str, str]:
    """Parse NAME=VALUE words; InvalidInputError if one is invalid."""
    pairs = list(pairs)
    for pair in pairs:
        if pair.find("=") < 1:
            raise InvalidInputError(f"Invalid --set {pair!r}. Use NAME=VALUE.")
        if without_surrogates(pair) != pair:
            raise InvalidInputError(f"--set {pair!r} is not UTF-8 text.")
    return dict(pair.split("=", 1) for pair in pairs)


def unused_options(job: JobSpec) -> list[str]:
    """The options without effect: all, if the file is a raw payload, which is sent unchanged."""
    if job.file is None or (job.kind or SUFFIXES.get(job.file.suffix.lower())) != "payload":
        return []
    given = (one.name for one in job_options("submit").values() if is_given(getattr(job, one.field)))
    return sorted(f"--{name}" for name in given)
