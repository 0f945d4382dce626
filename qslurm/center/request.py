"""From what a user asks to a payload: the file, its `#QSLURM` lines, the configuration, all checked on the way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qslurm.errors import InvalidInputError, QslurmError

if TYPE_CHECKING:
    from qslurm.center.config import Config
    from qslurm.payload.array import Array
    from qslurm.payload.sweep import Sweep

SWEEP_VARIABLE = "QSLURM_SWEEP"
"""In a batch script's environment: what each task's values are. C2's TaskProlog sets those of the task."""


@dataclass(frozen=True)
class Request:
    """What a user asks to submit. Whatever is None is left to the configuration, then to C2.

    A job is in a file, or is given as a text.
    """

    file: Path | None = None
    text: str | None = None
    template: str | None = None
    backend: str | None = None
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
    begin: str | None = None
    hold: bool = False
    comment: str | None = None
    export: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


def _unsaid(_: str) -> None:
    """Where remarks go that nobody wants to hear."""


def prepare(
    config: Config, request: Request, environ: Mapping[str, str], remark: Callable[[str], None] = _unsaid
) -> dict[str, Any]:
    """The payload of a request, checked as far as that is possible without C2.

    InvalidInputError (CircuitError for cQASM, with line and column) says what is wrong; nothing has been sent then.
    `remark` is told what is not wrong, but may not be what its user meant.
    """
    from qslurm.center.files import NAMES, kind_of, kind_of_text, read_source
    from qslurm.payload.validate import validate

    if request.text is not None:
        kind, text = kind_of_text(request.text), request.text
        request = replace(request, file=Path(NAMES[kind]))
    elif request.file is not None:
        text = read_source(request.file)
        kind = kind_of(request.file, text)
    elif request.template is not None:
        kind, text = "script", ""
    else:
        raise InvalidInputError("Nothing to submit.", hint="Name a file, or a template with --template.")
    if kind == "payload":
        from qslurm.center.origin import of_process
        from qslurm.payload.comment import Comment, new_key
        from qslurm.payload.raw import parse_payload, with_key

        marks = Comment(key=new_key(), origin=of_process(environ).format())
        payload = with_key(parse_payload(text, str(request.file)), marks)
    else:
        request = with_directives(request, text, remark)
        payload = _rendered(config, request, kind, text, environ)
        _refuse_lost_options(request, payload)
    validate(payload)
    return payload


def with_directives(request: Request, text: str, remark: Callable[[str], None] = _unsaid) -> Request:
    """The request, and where it says nothing, what the `#QSLURM` lines of its file say."""
    if re.search(r"^#SBATCH\s", text, re.MULTILINE):
        remark(
            f"{request.file}: C2 does not read its #SBATCH lines; write #QSLURM lines for qslurm's own options."
        )
    if "#QSLURM" not in text:
        return request
    from qslurm.center.directives import read_directives

    said = read_directives(text, str(request.file), remark)
    if request.backend or request.partition:  # one says where; the file's other would say something else
        said = {name: value for name, value in said.items() if name not in ("backend", "partition")}
    variables = {**variables_of(said.pop("variables", ())), **request.variables}
    return replace(
        request,
        variables=variables,
        **{name: value for name, value in said.items() if getattr(request, name) in (None, False, ())},
    )


def variables_of(pairs: Iterable[str]) -> dict[str, str]:
    """The values that NAME=VALUE words give; InvalidInputError for what is none."""
    for pair in pairs:
        if pair.find("=") < 1:
            raise InvalidInputError(f"--set {pair!r} is not NAME=VALUE.")
    return dict(pair.split("=", 1) for pair in pairs)


def _refuse_lost_options(request: Request, payload: Mapping[str, Any]) -> None:
    """InvalidInputError for an option that would change when a job runs, and that its template leaves out."""
    job = payload.get("job")
    for name, field_name in (
        ("array", "array"),
        ("sweep", "array"),
        ("dependency", "dependency"),
        ("begin", "begin_time"),
        ("hold", "hold"),
    ):
        if getattr(request, name) and isinstance(job, dict) and not job.get(field_name):
            raise InvalidInputError(
                f"The template {request.template} leaves out --{name}.",
                hint=f"Give its payload a field {field_name}, or include _job.j2 as the shipped templates do.",
            )


def _tasks(request: Request) -> tuple[Sweep | None, Array | None]:
    """The sweep and the array of a request; a sweep without an array is one of as many tasks as it has values."""
    from qslurm.payload.array import parse_array
    from qslurm.payload.sweep import parse_sweeps

    if not request.sweep:
        return None, parse_array(request.array) if request.array else None
    sweep, asked = parse_sweeps(request.sweep), request.array or ""
    array = parse_array(f"0-{len(sweep) - 1}{asked}" if not asked or asked.startswith("%") else asked)
    if array.indices[-1] >= len(sweep):
        raise InvalidInputError(
            f"The array {asked!r} goes beyond the sweep, which has {len(sweep)} tasks.",
            hint=f"Its indices are 0 to {len(sweep) - 1}; without --array all of them run.",
        )
    return sweep, array


def _checked_circuit(
    text: str, file: str, variables: Mapping[str, str], sweep: Sweep | None, array: Array | None
) -> str:
    """The circuit as C2 takes it, with values in place that are the same for all tasks; each task's is checked."""
    from qslurm.payload.sweep import filled, names_in, refuse_unfilled
    from qslurm.runtimes.circuit import check_circuit
    from qslurm.runtimes.openqasm import as_cqasm

    places = names_in(text)
    swept = sweep.names if sweep else ()
    if idle := [name for name in swept if name not in places]:
        raise InvalidInputError(
            f"{file} has no {{{{ {idle[0]} }}}}, so its tasks would all be the same.",
            hint=f"Write {{{{ {idle[0]} }}}} where the value belongs, or use --array for repetitions.",
        )
    text = filled(text, {name: value for name, value in variables.items() if name not in swept})
    refuse_unfilled(text, file, swept)
    if sweep is None or array is None:
        text = as_cqasm(text, file)
        check_circuit(text, file=file)
        return text
    for index in array.indices:
        circuit = filled(text, sweep.at(index))
        if as_cqasm(circuit, file) != circuit:
            raise InvalidInputError(
                f"{file} is OpenQASM, which C2 can't fill in.", hint="Write it in cQASM 3.0 to sweep it."
            )
        try:
            check_circuit(circuit, file=file)
        except QslurmError as error:
            said = ", ".join(f"{name}={value}" for name, value in sweep.at(index).items())
            raise type(error)(f"{error.message} (with {said})", hint=error.hint) from error
    return text


def _for_the_shell(sweep: Sweep, array: Array) -> str:
    """What C2's TaskProlog gives a batch script of: each task's values, `index:name=value name=value;` and so on."""
    return "".join(
        f"{index}:{' '.join(f'{name}={value}' for name, value in sweep.at(index).items())};"
        for index in array.indices
    )


def unused_options(request: Request) -> list[str]:
    """The options of a request that say nothing, because its file is a raw payload and is sent as it is."""
    from qslurm.center.files import SUFFIXES

    if request.file is None or SUFFIXES.get(request.file.suffix.lower()) != "payload":
        return []
    named = {
        **asdict(request),
        "set": request.variables,
        "job-name": request.name,
        "time": request.time_limit,
    }
    for not_an_option in ("file", "text", "variables", "name", "time_limit"):
        del named[not_an_option]
    return sorted(f"--{name.replace('_', '-')}" for name, value in named.items() if value)


def _rendered(
    config: Config, request: Request, kind: str, text: str, environ: Mapping[str, str]
) -> dict[str, Any]:
    from datetime import datetime

    from qslurm.center.origin import of_process
    from qslurm.payload.begin import parse_begin
    from qslurm.payload.comment import new_key
    from qslurm.payload.dependency import parse_dependency
    from qslurm.payload.export import parse_export
    from qslurm.payload.render import render
    from qslurm.payload.spec import JobSpec
    from qslurm.payload.sweep import names_in
    from qslurm.payload.time_limit import parse_time_limit

    backend = request.backend or config.job.backend
    if not backend and not request.partition:
        raise InvalidInputError(
            "Nobody said which backend the job is for.",
            hint="Say --backend NAME, or set one in the config ([job] backend).",
        )
    file = request.file.name if request.file else ""
    if kind == "script" and text.partition("\n")[0].endswith("\r"):
        raise InvalidInputError(
            f"{file} has Windows line ends, with which no program of its first line is found on C2.",
            hint=f"Take them out: `sed -i 's/\\r$//' {file}`.",
        )
    sweep, array = _tasks(request)
    parameters: dict[str, str] = {}
    if kind == "circuit":
        parameters = {name: value for name, value in request.variables.items() if name in names_in(text)}
        text = _checked_circuit(text, file, parameters, sweep, array)
    elif kind == "hybrid":
        from qslurm.runtimes.hybrid_file import check_hybrid

        check_hybrid(text, file)
        parameters = dict(request.variables)
    environment = parse_export(request.export, environ) if request.export else {}
    if sweep and array and kind == "script":
        environment[SWEEP_VARIABLE] = _for_the_shell(sweep, array)
    time_limit = request.time_limit or config.job.time_limit
    spec = JobSpec(
        kind=kind,  # type: ignore[arg-type] # the payload kind never comes here
        name=request.name or Path(file).stem or request.template or "qslurm",
        backend=backend or (request.partition or "").removeprefix("p_"),
        partition=request.partition or f"p_{backend}",
        shots=request.shots or config.job.shots,
        seed=request.seed,
        raw_data=request.raw_data,
        qpu_seconds=request.qpu_seconds,
        source=text,
        file=file,
        time_limit_minutes=parse_time_limit(time_limit) if time_limit else None,
        account=request.account or config.job.account,
        qos=request.qos or "",
        reservation=request.reservation or "",
        dependency=parse_dependency(request.dependency) if request.dependency else None,
        array=array.format() if array else None,
        sweep=sweep.text if sweep else "",
        parameters=parameters,
        begin_time=parse_begin(request.begin, datetime.now()) if request.begin else None,
        hold=request.hold,
        note=" ".join((request.comment or "").split()),
        environment=environment,
        key=new_key(),
        origin=of_process(environ).format(),
        variables=dict(request.variables),
    )
    return render(spec, request.template or kind, config.template_folders())
