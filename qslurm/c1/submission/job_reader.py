"""What a user asks to submit: the command line, and where it says nothing the `#QSLURM` lines of the file."""

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
"""The file of a job that comes on stdin, as for sbatch."""

ANY = "any"
"""The backend of a job that leaves it open which."""


def unsaid(_: str) -> None:
    """Where remarks go that nobody wants to hear."""


def read(job: JobSpec, remark: Callable[[str], None] = unsaid) -> JobSpec:
    """The job with its file read, and with the options that stand in the file; once is enough.

    InvalidInputError for a file that can't be read or used. `remark` is told of what its user may not have meant.
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
    """InvalidInputError for an option whose value is an empty text, such as of a shell's variable that is not set.

    It would count as one that was not given: a job that was to wait for another would start at once.
    """
    for one in job_options().values():
        if getattr(job, one.field) == "" and not one.option.may_be_empty:
            raise InvalidInputError(f"--{one.name} is empty.", hint="Give it a value, or omit it.")


def with_directives(job: JobSpec, remark: Callable[[str], None] = unsaid) -> JobSpec:
    """The job, and where it says nothing, what the `#QSLURM` lines of its file say."""
    text = job.source or ""
    remark_unread(text, job, remark)
    if "#QSLURM" not in text:
        return job
    from qslurm.c1.submission.directives import read_directives

    said = read_directives(text, str(job.file), remark)
    elsewhere = job.platform and said.get("platform", job.platform) != job.platform
    if job.backend or job.partition or elsewhere:  # the file's other would say something else
        said = {name: value for name, value in said.items() if name not in ("backend", "partition")}
    variables = {**variables_of(said.pop("variables", ())), **job.variables}
    left_open: dict[str, Any] = {name: value for name, value in said.items() if is_unsaid(getattr(job, name))}
    return msgspec.structs.replace(job, variables=variables, **left_open)


def is_unsaid(value: object) -> bool:
    """Whether an option was not given; 0 and an empty text were, though they are false."""
    return value is None or value is False or value in ((), {})


def remark_unread(script: object, job: JobSpec, remark: Callable[[str], None]) -> None:
    """Tell of lines in a job's text that look like options, and that nobody reads."""
    words = ("#SBATCH", "#QSLURM") if job.kind == "payload" else ("#SBATCH",)
    if not isinstance(script, str) or not re.search(rf"^({'|'.join(words)})\s", script, re.MULTILINE):
        return
    of_payload = "say it in the fields of its job"
    instead = of_payload if job.kind == "payload" else "write #QSLURM lines for qslurm's own options"
    remark(f"{job.file}: C2 does not read its {' and '.join(words)} lines; {instead}.")


def variables_of(pairs: Iterable[str]) -> dict[str, str]:
    """The values that NAME=VALUE words give; InvalidInputError for what is none."""
    pairs = list(pairs)
    for pair in pairs:
        if pair.find("=") < 1:
            raise InvalidInputError(f"Invalid --set {pair!r}. Use NAME=VALUE.")
        if without_surrogates(pair) != pair:
            raise InvalidInputError(f"--set {pair!r} is not UTF-8 text.")
    return dict(pair.split("=", 1) for pair in pairs)


def unused_options(job: JobSpec) -> list[str]:
    """The options of a job that have no effect, because its file is a raw payload and is sent unchanged."""
    if job.file is None or (job.kind or SUFFIXES.get(job.file.suffix.lower())) != "payload":
        return []
    given = (one.name for one in job_options("submit").values() if not is_unsaid(getattr(job, one.field)))
    return sorted(f"--{name}" for name in given)
