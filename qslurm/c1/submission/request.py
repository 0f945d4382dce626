"""From what a user asks to a payload: the file, its `#QSLURM` lines, the configuration, all checked on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qslurm.c1.submission.backend_limits import Limits, nothing_known, refuse_beyond
from qslurm.c1.submission.options import Request, remark_unread, settle, unsaid
from qslurm.errors import InvalidInputError, QslurmError
from qslurm.system.encoding_errors import without_surrogates

if TYPE_CHECKING:
    from qslurm.c1.config.center_config import Config
    from qslurm.payload.array import Array
    from qslurm.payload.spec import JobSpec
    from qslurm.payload.sweep import Sweep

__all__ = ["Request", "needed_qubits", "prepare"]

SWEEP_VARIABLE = "QSLURM_SWEEP"
"""In a batch script's environment: what each task's values are. C2's TaskProlog sets those of the task."""


def prepare(
    config: Config,
    request: Request,
    environ: Mapping[str, str],
    remark: Callable[[str], None] = unsaid,
    limits: Limits = nothing_known,
) -> dict[str, Any]:
    """The payload of a request, checked as far as that is possible, with the `limits` of the backends.

    InvalidInputError (CircuitError for cQASM, with line and column) says what is wrong; nothing has been sent then.
    `remark` is told what is not wrong, but may not be what its user meant.
    """
    return payload_of(config, checked(config, request, environ, remark, limits))


@dataclass(frozen=True)
class Checked:
    """A settled request that is good: the job, or the payload as its user wrote it."""

    request: Request
    job: JobSpec | None = None
    payload: dict[str, Any] | None = None


def checked(
    config: Config,
    request: Request,
    environ: Mapping[str, str],
    remark: Callable[[str], None] = unsaid,
    limits: Limits = nothing_known,
) -> Checked:
    """The first half of `prepare`: the job that a request stands for."""
    request = settle(request, remark)
    _refuse_another_platform(config, request)
    text = request.text or ""
    if request.kind == "payload":
        from qslurm.c1.origin import of_process
        from qslurm.payload.comment import Comment, new_key
        from qslurm.payload.raw import decided_by_c2, parse_payload, script_in, with_key

        marks = Comment(key=new_key(), origin=of_process(environ).format())
        payload = parse_payload(text, str(request.file))
        remark_unread(script_in(payload), request, remark)
        if ignored := decided_by_c2(payload):
            remark(
                f"{request.file}: C2 ignores {', '.join(ignored)}: a job runs in a folder of its own there."
            )
        return Checked(request, payload=with_key(payload, marks))
    return Checked(request, _job(config, request, text, environ, limits))


def payload_of(config: Config, ready: Checked) -> dict[str, Any]:
    """The second half of `prepare`: the payload that a template makes of a job."""
    from qslurm.payload.validate import validate

    payload = ready.payload or {}
    if ready.job is not None:
        from qslurm.payload.render import render

        payload = render(ready.job, ready.request.template or ready.job.kind, config.template_folders())
        _refuse_lost_options(ready.request, ready.job, payload)
    validate(payload, _options_of(payload, ready.job) if ready.job else None)
    return payload


def _options_of(payload: Mapping[str, Any], job: JobSpec) -> dict[str, str]:
    """The fields of a payload that we have made, and the options that have given them their values."""
    made = payload.get("job")
    fields: Mapping[str, Any] = made if isinstance(made, dict) else {}
    names = ("account", "array", "dependency", "partition", "qos", "reservation")
    options = {f"job.{name}": f"--{name}" for name in names} | {"job.name": "--job-name"}
    environment = fields.get("environment")
    for index, entry in enumerate(environment if isinstance(environment, list) else ()):
        name = str(entry).partition("=")[0]
        if name in job.environment:
            options[f"job.environment[{index}]"] = f"--export {name}"
    return options


def _refuse_lost_options(request: Request, job: JobSpec, payload: Mapping[str, Any]) -> None:
    """InvalidInputError for an option that would change when a job runs, and that its template leaves out."""
    made = payload.get("job")
    for name, field_name in (
        ("sweep" if request.sweep else "array", "array"),
        ("dependency", "dependency"),
        ("begin", "begin_time"),
        ("hold", "hold"),
    ):
        if getattr(job, field_name) and isinstance(made, dict) and not made.get(field_name):
            raise InvalidInputError(
                f"The template {request.template or job.kind} leaves out --{name}.",
                hint=f"Give its payload a field {field_name}, or include _job.j2 as the shipped templates do.",
            )


def needed_qubits(request: Request) -> int | None:
    """How many qubits a settled request needs: what its circuit declares, or what its user says; None if neither does.

    CircuitError, InvalidInputError as from `prepare`.
    """
    if request.kind != "circuit":
        return request.qubits
    sweep, array = _tasks(request)
    file, text = request.file.name if request.file else "", request.text or ""
    _, qubits = _checked_circuit(text, file, _values_for(text, request), sweep, array)
    return max(qubits, request.qubits or 0)


def _values_for(text: str, request: Request) -> dict[str, str]:
    """The values that have a place in a circuit; the others are the template's."""
    from qslurm.payload.sweep import names_in

    places = names_in(text)
    return {name: value for name, value in request.variables.items() if name in places}


def _refuse_another_platform(config: Config, request: Request) -> None:
    if request.platform and request.platform != config.platform:
        raise another_platform(request, config.platform)


def another_platform(request: Request, platform: str) -> InvalidInputError:
    """What is said of a file that names another platform than the one it would go to."""
    return InvalidInputError(
        f"{request.file} is for platform {request.platform}, and would go to {platform}.",
        hint=f"Say --platform {request.platform}.",
    )


def _dependency(config: Config, asked: str) -> str:
    """A dependency as C2 reads it; InvalidInputError for one on another platform's job."""
    from qslurm.c1.queries.job_ids import platforms_in, without_platforms
    from qslurm.payload.dependency import parse_dependency

    for name in platforms_in(asked) - {"", config.platform}:
        raise InvalidInputError(
            f"The dependency {asked!r} is on a job of {name}, and this one would go to {config.platform}.",
            hint="C2 knows its own jobs only; wait for the other with `qslurm wait`.",
        )
    return parse_dependency(without_platforms(asked))


def _tasks(request: Request) -> tuple[Sweep | None, Array | None]:
    """The sweep and the array of a request; a sweep without an array is one of as many tasks as it has values."""
    from qslurm.payload.array import parse_array
    from qslurm.payload.sweep import parse_sweeps

    if not request.sweep:
        return None, parse_array(request.array) if request.array else None
    sweep, asked = parse_sweeps(request.sweep).after(request.skip), request.array or ""
    last = (request.tasks or len(sweep)) - 1
    array = parse_array(f"0-{last}{asked}" if not asked or asked.startswith("%") else asked)
    if array.indices[-1] >= len(sweep):
        raise InvalidInputError(
            f"The array {asked!r} goes beyond the sweep, which has {len(sweep)} tasks.",
            hint=f"Its indices are 0 to {len(sweep) - 1}; without --array all of them run.",
        )
    return sweep, array


def _checked_circuit(
    text: str, file: str, variables: Mapping[str, str], sweep: Sweep | None, array: Array | None
) -> tuple[str, int]:
    """The circuit as C2 takes it, with values in place that are the same for all tasks, and its qubits.

    Each task's circuit is checked.
    """
    from qslurm.circuits.check import check_circuit
    from qslurm.circuits.openqasm import as_cqasm
    from qslurm.payload.sweep import filled, names_in, refuse_unfilled

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
        return text, check_circuit(text, file=file).qubits
    qubits = 0
    for index in array.indices:
        circuit = filled(text, sweep.at(index))
        if as_cqasm(circuit, file) != circuit:
            raise InvalidInputError(
                f"{file} is OpenQASM, which C2 can't fill in.", hint="Write it in cQASM 3.0 to sweep it."
            )
        try:
            qubits = max(qubits, check_circuit(circuit, file=file).qubits)
        except QslurmError as error:
            said = ", ".join(f"{name}={value}" for name, value in sweep.at(index).items())
            raise type(error)(f"{error.message} (with {said})", hint=error.hint) from error
    return text, qubits


def backend_of(config: Config, request: Request) -> str:
    """The backend of a job: the one of its partition, if that is a backend's (there C2 looks); else as was said."""
    named, partition = request.backend, request.partition or ""
    if several := next((words for words in (partition, named or "") if "," in words), ""):
        raise InvalidInputError(
            f"A job is for one backend, and {several!r} names several.",
            hint="Name one, or let --backend any choose.",
        )
    if not partition.startswith("p_"):
        return named or config.job.backend or partition
    if named and named != partition.removeprefix("p_"):
        raise InvalidInputError(
            f"Partition {partition} is backend {partition.removeprefix('p_')}'s, and --backend says {named}.",
            hint="Leave one of them out.",
        )
    return partition.removeprefix("p_")


def _for_the_shell(sweep: Sweep, array: Array) -> str:
    """What C2's TaskProlog gives a batch script of: each task's values, `index:name=value name=value;` and so on."""
    return "".join(
        f"{index}:{' '.join(f'{name}={value}' for name, value in sweep.at(index).items())};"
        for index in array.indices
    )


def _job(config: Config, request: Request, text: str, environ: Mapping[str, str], limits: Limits) -> JobSpec:
    from qslurm.c1.origin import of_process
    from qslurm.payload.comment import new_key
    from qslurm.payload.spec import JobSpec
    from qslurm.payload.validate import MAX_VARIABLE, dos_line

    backend, kind = backend_of(config, request), request.kind
    if not backend:
        raise InvalidInputError(
            "Nobody said which backend the job is for.",
            hint="Say --backend NAME, or set one in the config ([job] backend).",
        )
    file = without_surrogates(request.file.name) if request.file else ""
    if kind == "script" and (line := dos_line(text)):
        import shlex

        raise InvalidInputError(
            f"{file}:{line}: this line ends as on Windows (CR LF); a shell would take the CR for a letter.",
            hint=f"Take them out: `sed -i 's/\\r$//' {shlex.quote(str(request.file or file))}`.",
        )
    sweep, array = _tasks(request)
    parameters: dict[str, str] = {}
    qubits: int | None = None
    if kind == "circuit":
        parameters = _values_for(text, request)
        text, qubits = _checked_circuit(text, file, parameters, sweep, array)
    elif kind == "hybrid":
        from qslurm.runtimes.hybrid.hybrid_file import check_hybrid

        check_hybrid(text, file)
        parameters = dict(request.variables)
    shots = request.shots or config.job.shots
    if kind in {"circuit", "hybrid"}:
        refuse_beyond(limits, backend, file, qubits=qubits, shots=shots)
    environment = _exported(request.export, environ) if request.export else {}
    if sweep and array and kind == "script":
        environment[SWEEP_VARIABLE] = _for_the_shell(sweep, array)
        if (size := len(environment[SWEEP_VARIABLE])) > MAX_VARIABLE - len(SWEEP_VARIABLE) - 1:
            raise InvalidInputError(
                f"The values of the sweep's {len(array.indices)} tasks are {size} bytes; a batch script can be given "
                f"{MAX_VARIABLE}.",
                hint="Run a part of it at a time, such as --array 0-999, or sweep a circuit or a hybrid file.",
            )
    time_limit = request.time_limit or config.job.time_limit
    return JobSpec(
        kind=kind,  # type: ignore[arg-type] # the payload kind never comes here
        name=request.name or Path(file).stem or request.template or "qslurm",
        backend=backend,
        partition=request.partition or f"p_{backend}",
        shots=shots,
        seed=request.seed,
        raw_data=request.raw_data,
        qpu_seconds=request.qpu_seconds,
        source=text,
        file=file,
        time_limit_minutes=_minutes(time_limit) if time_limit else None,
        account=request.account or config.job.account,
        qos=request.qos or "",
        reservation=request.reservation or "",
        dependency=_dependency(config, request.dependency) if request.dependency else None,
        array=array.format() if array else None,
        sweep=sweep.text if sweep else "",
        parameters=parameters,
        begin_time=_begin_time(request.begin) if request.begin else None,
        hold=request.hold,
        note=" ".join((request.comment or "").split()),
        environment=environment,
        key=new_key(),
        origin=of_process(environ).format(),
        variables=dict(request.variables),
    )


# Options that few jobs have are read by modules that only those load.


def _exported(names: str, environ: Mapping[str, str]) -> dict[str, str]:
    from qslurm.payload.export import parse_export

    return parse_export(names, environ)


def _minutes(time_limit: str) -> int:
    from qslurm.payload.time_limit import parse_time_limit

    return parse_time_limit(time_limit)


def _begin_time(begin: str) -> int:
    from datetime import datetime

    from qslurm.payload.begin import parse_begin

    return parse_begin(begin, datetime.now())
