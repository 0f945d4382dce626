"""What a user asks to submit: the command line, and where it says nothing the `#QSLURM` lines of the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from qslurm.c1.submission.job_files import (
    NAMES,
    SUFFIXES,
    FileKind,
    kind_of,
    kind_of_text,
    read_source,
    read_stdin,
)
from qslurm.errors import InvalidInputError
from qslurm.system.encoding_errors import without_surrogates

STDIN = Path("-")
"""The file of a job that comes on stdin, as for sbatch."""

ANY = "any"
"""The backend of a request that leaves it open which."""


@dataclass(frozen=True)
class Request:
    """What a user asks to submit. Whatever is None is left to the configuration, then to C2.

    A job is in a file, or is given as a text. `kind` is there once the file has been read (`settle`).
    Of a sweep in parts `skip` is how many tasks the parts before it have, and `tasks` how many this one has.
    """

    file: Path | None = None
    text: str | None = None
    template: str | None = None
    platform: str | None = None
    backend: str | None = None
    qubits: int | None = None
    partition: str | None = None
    name: str | None = None
    shots: int | None = None
    seed: int | None = None
    raw_data: bool = False
    qpu_seconds: float | None = None
    time_limit: str | None = None
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    dependency: str | None = None
    array: str | None = None
    sweep: tuple[str, ...] = ()
    skip: int = 0
    tasks: int | None = None
    begin: str | None = None
    hold: bool = False
    comment: str | None = None
    export: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    kind: FileKind | None = None


def unsaid(_: str) -> None:
    """Where remarks go that nobody wants to hear."""


def settle(request: Request, remark: Callable[[str], None] = unsaid) -> Request:
    """The request with its file read, and with what the file says of itself; once is enough.

    InvalidInputError for a file that can't be read or used. `remark` is told of what its user may not have meant.
    """
    if request.kind is not None:
        return request
    if request.text is not None:
        kind = kind_of_text(request.text)
        request = replace(request, file=Path(NAMES[kind]), kind=kind)
    elif request.file == STDIN:
        text = read_stdin()
        kind = kind_of_text(text)
        request = replace(request, text=text, file=Path(NAMES[kind]), kind=kind)
    elif request.file is not None:
        text = read_source(request.file)
        request = replace(request, text=text, kind=kind_of(request.file, text))
    elif request.template is not None:
        request = replace(request, text="", kind="script")
    else:
        raise InvalidInputError(
            "Nothing to submit.", hint="Name a file, `-` for stdin, or a template with --template."
        )
    if request.kind != "payload":
        request = with_directives(request, request.text or "", remark)
    refuse_empty(request)
    return request


MAY_BE_EMPTY = ("text", "comment", "export")
"""What an empty text means something for: no comment, no variables."""


def refuse_empty(request: Request) -> None:
    """InvalidInputError for an option whose value is an empty text, such as of a shell's variable that is not set.

    It would count as one that was not given: a job that was to wait for another would start at once.
    """
    for name, value in vars(request).items():
        if value == "" and name not in MAY_BE_EMPTY:
            option = {"name": "job-name", "time_limit": "time"}.get(name, name.replace("_", "-"))
            raise InvalidInputError(f"--{option} is empty.", hint="Say what it is to be, or leave it out.")


def with_directives(request: Request, text: str, remark: Callable[[str], None] = unsaid) -> Request:
    """The request, and where it says nothing, what the `#QSLURM` lines of its file say."""
    remark_unread(text, request, remark)
    if "#QSLURM" not in text:
        return request
    from qslurm.c1.submission.directives import read_directives

    said = read_directives(text, str(request.file), remark)
    elsewhere = request.platform and said.get("platform", request.platform) != request.platform
    if request.backend or request.partition or elsewhere:  # the file's other would say something else
        said = {name: value for name, value in said.items() if name not in ("backend", "partition")}
    variables = {**variables_of(said.pop("variables", ())), **request.variables}
    return replace(
        request,
        variables=variables,
        **{name: value for name, value in said.items() if is_unsaid(getattr(request, name))},
    )


def is_unsaid(value: object) -> bool:
    """Whether an option was not given; 0 and an empty text were, though they are false."""
    return value is None or value is False or value == ()


def remark_unread(script: object, request: Request, remark: Callable[[str], None]) -> None:
    """Tell of lines in a job's text that look like options, and that nobody reads."""
    words = ("#SBATCH", "#QSLURM") if request.kind == "payload" else ("#SBATCH",)
    if not isinstance(script, str) or not re.search(rf"^({'|'.join(words)})\s", script, re.MULTILINE):
        return
    of_payload = "say it in the fields of its job"
    instead = of_payload if request.kind == "payload" else "write #QSLURM lines for qslurm's own options"
    remark(f"{request.file}: C2 does not read its {' and '.join(words)} lines; {instead}.")


def variables_of(pairs: Iterable[str]) -> dict[str, str]:
    """The values that NAME=VALUE words give; InvalidInputError for what is none."""
    pairs = list(pairs)
    for pair in pairs:
        if pair.find("=") < 1:
            raise InvalidInputError(f"--set {pair!r} is not NAME=VALUE.")
        if without_surrogates(pair) != pair:
            raise InvalidInputError(f"--set {pair!r} is not UTF-8 text.")
    return dict(pair.split("=", 1) for pair in pairs)


def unused_options(request: Request) -> list[str]:
    """The options of a request that say nothing, because its file is a raw payload and is sent as it is."""
    if request.file is None or (request.kind or SUFFIXES.get(request.file.suffix.lower())) != "payload":
        return []
    named = {
        **asdict(request),
        "set": request.variables,
        "job-name": request.name,
        "time": request.time_limit,
    }
    for not_an_option in (
        "file",
        "text",
        "kind",
        "platform",
        "skip",
        "tasks",
        "variables",
        "name",
        "time_limit",
    ):
        del named[not_an_option]
    return sorted(
        f"--{name.replace('_', '-')}" for name, value in named.items() if not is_unsaid(value) and value != {}
    )
