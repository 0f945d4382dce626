"""Completes and checks a job: its file, `#QSLURM` lines, and defaults from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from qslurm.c1.submission.backend_limits import LimitsLookup, check_limits, no_limits
from qslurm.c1.submission.job_reader import ignore_remark, read, remark_ignored_lines
from qslurm.errors import InvalidInputError, QslurmError
from qslurm.payload.comment import new_key
from qslurm.payload.spec import JobSpec

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.payload.array import Array
    from qslurm.payload.sweep import Sweep

SWEEP_VARIABLE = "QSLURM_SWEEP"
"""Environment variable of a batch script with each task's values, from which C2's TaskProlog sets the task's."""


def checked(
    config: Config,
    job: JobSpec,
    environ: Mapping[str, str],
    remark: Callable[[str], None] = ignore_remark,
    limits: LimitsLookup = no_limits,
) -> JobSpec:
    """The job with everything that `payload_of` needs, and a new submission key.

    InvalidInputError (CircuitError for a circuit, with line and column) if it is invalid, also for the backends'
    `limits`. `remark` gets notes about likely mistakes. A job may be checked again, for example with other values for
    `skip` and `tasks`.
    """
    from qslurm.c1.origin import of_process

    job = read(job, remark)
    if job.platform and job.platform != config.platform:
        raise another_platform(job, config.platform)
    job = msgspec.structs.replace(job, key=new_key(), origin=of_process(environ).format())
    if job.kind != "payload":
        return _completed(config, job, environ, limits)
    from qslurm.payload.raw import decided_by_c2, parse_payload, script_in

    payload = parse_payload(job.source or "", str(job.file))
    remark_ignored_lines(script_in(payload), job, remark)
    if ignored := decided_by_c2(payload):
        remark(f"{job.file}: C2 ignores {', '.join(ignored)}: each job runs in its own directory there.")
    return job


def needed_qubits(job: JobSpec) -> int | None:
    """The qubits that a job needs: those of its circuit or of --qubits; None if unknown. Errors as for `checked`."""
    if job.kind != "circuit":
        return job.qubits
    sweep, array = _tasks(job)
    file, text = job.file.name if job.file else "", job.source or ""
    _, qubits = _checked_circuit(text, file, _values_for(text, job), sweep, array)
    return max(qubits, job.qubits or 0)


def _values_for(text: str, job: JobSpec) -> dict[str, str]:
    """The values of placeholders in a circuit; the others are for the template."""
    from qslurm.payload.sweep import names_in

    places = names_in(text)
    return {name: value for name, value in job.variables.items() if name in places}


def another_platform(job: JobSpec, platform: str) -> InvalidInputError:
    """The error for a file that names another platform than the one selected."""
    return InvalidInputError(
        f"{job.file} names platform {job.platform}, but would be submitted to {platform}.",
        hint=f"Use --platform {job.platform}.",
    )


def _dependency(config: Config, text: str) -> str:
    """A dependency in Slurm's syntax; InvalidInputError if it is on another platform's job."""
    from qslurm.c1.queries.job_ids import platforms_in, without_platforms
    from qslurm.payload.dependency import parse_dependency

    for name in platforms_in(text) - {"", config.platform}:
        raise InvalidInputError(
            f"The dependency {text!r} is on a job of {name}, and this one would go to {config.platform}.",
            hint="C2 knows only its own jobs. Use `qslurm wait` for the other.",
        )
    return parse_dependency(without_platforms(text))


def _tasks(job: JobSpec) -> tuple[Sweep | None, Array | None]:
    """The sweep and the array of a job; by default a sweep's array has a task for each value."""
    from qslurm.payload.array import parse_array
    from qslurm.payload.sweep import parse_sweeps

    if not job.sweep:
        return None, parse_array(job.array) if job.array else None
    sweep, text = parse_sweeps(job.sweep).after(job.skip), job.array or ""
    last = (job.tasks or len(sweep)) - 1
    array = parse_array(f"0-{last}{text}" if not text or text.startswith("%") else text)
    if array.indices[-1] >= len(sweep):
        raise InvalidInputError(
            f"The array {text!r} goes beyond the sweep, which has {len(sweep)} tasks.",
            hint=f"Use indexes 0 to {len(sweep) - 1}, or omit --array to run all.",
        )
    return sweep, array


def _checked_circuit(
    text: str, file: str, variables: Mapping[str, str], sweep: Sweep | None, array: Array | None
) -> tuple[str, int]:
    """The circuit for C2, with the values that all tasks share filled in, and its qubits. Checks every task."""
    from qslurm.circuits.check import check_circuit
    from qslurm.circuits.openqasm import as_cqasm
    from qslurm.payload.sweep import filled, names_in, refuse_unfilled

    places = names_in(text)
    swept = sweep.names if sweep else ()
    if unused := [name for name in swept if name not in places]:
        raise InvalidInputError(
            f"{file} has no {{{{ {unused[0]} }}}}, so its tasks would all be the same.",
            hint=f"Write {{{{ {unused[0]} }}}} where the value belongs, or use --array for repetitions.",
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
                f"{file}: sweeps of OpenQASM are not supported.", hint="Use cQASM 3.0 for sweeps."
            )
        try:
            qubits = max(qubits, check_circuit(circuit, file=file).qubits)
        except QslurmError as error:
            values = ", ".join(f"{name}={value}" for name, value in sweep.at(index).items())
            raise type(error)(f"{error.message} (with {values})", hint=error.hint) from error
    return text, qubits


def backend_of(config: Config, job: JobSpec) -> str:
    """The backend of a job: that of its partition (p_<backend>), else the one named or configured."""
    named, partition = job.backend, job.partition or ""
    if several := next((words for words in (partition, named or "") if "," in words), ""):
        raise InvalidInputError(
            f"A job is for one backend, but {several!r} lists several.",
            hint="Name one, or use --backend any.",
        )
    if not partition.startswith("p_"):
        return named or config.job.backend or partition
    if named and named != partition.removeprefix("p_"):
        raise InvalidInputError(
            f"Partition {partition} is backend {partition.removeprefix('p_')}'s, and --backend says {named}.",
            hint="Use only one of them.",
        )
    return partition.removeprefix("p_")


def _sweep_variable(sweep: Sweep, array: Array) -> str:
    """The value of SWEEP_VARIABLE: `index:name=value name=value;` for each task."""
    from qslurm.payload.validate import MAX_VARIABLE

    text = "".join(
        f"{index}:{' '.join(f'{name}={value}' for name, value in sweep.at(index).items())};"
        for index in array.indices
    )
    if len(text) > MAX_VARIABLE - len(SWEEP_VARIABLE) - 1:
        raise InvalidInputError(
            f"The values of the sweep's {len(array.indices)} tasks are {len(text)} bytes; a batch script can be given "
            f"{MAX_VARIABLE}.",
            hint="Run it in parts, for example --array 0-999, or sweep a circuit or a hybrid file.",
        )
    return text


def _completed(config: Config, job: JobSpec, environ: Mapping[str, str], limits: LimitsLookup) -> JobSpec:
    """The job with defaults from the configuration, and its file checked."""
    backend = backend_of(config, job)
    if not backend:
        raise InvalidInputError(
            "No backend given.",
            hint="Use --backend NAME (backend=… in Python), or set backend under [job] in the configuration.",
        )
    file = job.file_name if job.file else ""
    if job.kind == "script":
        _refuse_dos_lines(job, file)
    sweep, array = _tasks(job)
    source, parameters, qubits = job.source or "", job.parameters, None
    if job.kind == "circuit":
        found = _values_for(source, job)
        source, qubits = _checked_circuit(source, file, found, sweep, array)
        parameters = {**parameters, **found}
    elif job.kind == "hybrid":
        from qslurm.runtimes.hybrid.hybrid_file import check_hybrid

        check_hybrid(source, file)
        parameters = dict(job.variables)
    shots = job.shots if job.kind == "session" else job.shots or config.job.shots
    if job.kind != "script":
        check_limits(limits, backend, file, qubits=qubits, shots=shots)
    environment = _exported(job.export, environ) if job.export else {}
    if sweep and array and job.kind == "script":
        environment[SWEEP_VARIABLE] = _sweep_variable(sweep, array)
    return msgspec.structs.replace(
        job,
        source=source,
        backend=backend,
        partition=job.partition or f"p_{backend}",
        shots=shots,
        time_limit=job.time_limit or config.job.time_limit or None,
        account=job.account or config.job.account or None,
        dependency=_dependency(config, job.dependency) if job.dependency else None,
        indices=array.format() if array else "",
        sweep_text=sweep.text if sweep else "",
        parameters=parameters,
        environment=environment,
    )


def _refuse_dos_lines(job: JobSpec, file: str) -> None:
    import shlex

    from qslurm.payload.validate import dos_line

    if line := dos_line(job.source or ""):
        raise InvalidInputError(
            f"{file}:{line}: this line ends as on Windows (CR LF); a shell would take the CR for a letter.",
            hint=f"Convert it: `sed -i 's/\\r$//' {shlex.quote(str(job.file or file))}`.",
        )


def _exported(names: str, environ: Mapping[str, str]) -> dict[str, str]:
    from qslurm.payload.export import parse_export  # rarely needed

    return parse_export(names, environ)
