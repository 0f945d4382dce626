"""Validates payloads, reporting all problems at once.

slurmrestd accepts invalid payloads: it drops unknown fields, only warns of wrong types, and cuts a script at a NUL.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from qslurm.errors import InvalidInputError

# The fields of a job description in API v0.0.39, from the OpenAPI document of slurmrestd 23.02.8. That server ignores
# unknown fields, so they are refused here.

Type = Literal["text", "integer", "boolean", "texts", "number", "nodes", "environment", "object"]
"""texts: a list of strings. number: an integer, or {set, infinite, number}. nodes: a text or an integer."""

_BY_TYPE: dict[Type, str] = {
    "text": """
        account account_gather_frequency admin_comment allocation_node_list array batch_features
        burst_buffer clusters cluster_constraint comment container container_id cpu_binding
        cpu_frequency cpus_per_tres dependency extra constraints group_id licenses mail_user
        mcs_label memory_binding memory_per_tres name network partition prefer qos reservation
        script distribution tres_bind tres_freq tres_per_job tres_per_node tres_per_socket
        tres_per_task user_id kill_warning_signal current_working_directory selinux_context
        standard_error standard_input standard_output wckey x11_magic_cookie x11_target_host
    """,
    "integer": """
        allocation_node_port core_specification thread_specification deadline delay_boot
        end_time hetjob_group job_id nice tasks reserve_ports site_factor
        cpus_per_task minimum_cpus maximum_cpus minimum_nodes maximum_nodes minimum_boards_per_node
        minimum_sockets_per_board sockets_per_node threads_per_core tasks_per_node tasks_per_socket
        tasks_per_core tasks_per_board ntasks_per_tres minimum_cpus_per_node temporary_disk_per_node
        wait_for_switch x11_target_port
    """,
    "boolean": """
        contiguous immediate kill_on_node_fail overcommit hold reboot requeue oversubscribe
        wait_all_nodes
    """,
    "texts": """
        argv flags cpu_binding_flags excluded_nodes mail_type memory_binding_type open_mode
        power_flags profile required_nodes shared exclusive spank_environment kill_warning_flags x11
    """,
    "number": """
        begin_time distribution_plane_size
        priority time_limit time_minimum kill_warning_delay required_switches memory_per_cpu
        memory_per_node
    """,
    "nodes": "nodes",
    "environment": "environment",
    "object": "crontab",
}

FINITE = ("begin_time", "distribution_plane_size")
"""Numbers that cannot be infinite: older API versions have an integer there."""

JOB_FIELDS: dict[str, Type] = {name: kind for kind, names in _BY_TYPE.items() for name in names.split()}
"""The type of each field of a job description."""

TYPE_NAMES: dict[Type, str] = {
    "text": "a string",
    "integer": "an integer",
    "boolean": "true or false",
    "texts": "a list of strings",
    "number": 'an integer, or {"set": true, "infinite": false, "number": 5}',
    "nodes": 'a string such as "1" or "1-4", or an integer',
    "environment": 'a list of "NAME=value", or an object',
    "object": "an object",
}

MAX_SCRIPT = 4 * 1024 * 1024
"""Maximum bytes of a batch script; slurmctld refuses more with 2012 (seen on 22.05.8)."""

MAX_TEXT = 1024
"""Maximum bytes of a name, comment or extra."""

MAX_VARIABLE = 100_000
"""Maximum bytes of an environment variable: Linux's execve allows 128 KiB; a job with more fails 7:0."""

_SHORT = ("name", "comment", "admin_comment", "extra")
_TOP = ("job", "script")
_NODES = re.compile(r"[0-9][0-9,:kKmM-]{0,99}")
"""As sbatch accepts them. slurmrestd 24.11 and 26.05 crash on `%s%s%n` nodes."""

_CARRIAGE_RETURN = re.compile(r"\r(?=\n|\Z)|\A[^\n]*\r")

_NOT_YOURS = ("user_id", "group_id")
"""slurmrestd 24.11 crashes on an unknown group."""

_TOKENS = ("SLURM_JWT", "QSLURM_TOKEN")


def validate(payload: object, options: Mapping[str, str] | None = None) -> None:
    """Refuse a payload that C2 would refuse, truncate or misinterpret.

    InvalidInputError names each problem by the path of its field, such as `job.time_limit`, or by the option that
    `options` has for it, such as `--job-name`.
    """
    found = [_by_option(problem, options or {}) for problem in problems(payload)]
    if not found:
        return
    what = "job" if options else "payload"
    if len(found) == 1:
        raise InvalidInputError(f"Invalid {what}: {found[0]}.")
    listed = "; ".join(found)
    raise InvalidInputError(f"Invalid {what}, {len(found)} errors: {listed}.")


def _by_option(problem: str, options: Mapping[str, str]) -> str:
    path, colon, text = problem.partition(": ")
    return f"{options.get(path, path)}{colon}{text}"


def problems(payload: object) -> Iterator[str]:
    """Yield each problem of a payload."""
    if not isinstance(payload, dict):
        yield 'not an object with "job" and "script"'
        return
    for name in payload:
        if name == "jobs":
            yield "jobs: several jobs in one payload are not supported; submit them separately"
        elif name not in _TOP:
            yield f"{name}: unknown field{_nearest(name, _TOP)}"
    yield from _unsendable(payload, "")
    job = payload.get("job")
    if not isinstance(job, dict):
        yield "job: must be an object" if "job" in payload else "job: missing"
        return
    yield from _fields(job)
    yield from _environment(job.get("environment"))
    yield from _script(payload, job)


def _fields(job: Mapping[str, Any]) -> Iterator[str]:
    for name, value in job.items():
        kind = JOB_FIELDS.get(name)
        if kind is None:
            yield f"job.{name}: unknown field{_nearest(name, JOB_FIELDS)}"
        elif name in _NOT_YOURS:
            yield f"job.{name}: a job runs as the center's user on C2; remove it"
        elif not _fits(value, kind):
            yield f"job.{name}: must be {TYPE_NAMES[kind]}, not {_shown(value)}"
        elif name in FINITE and isinstance(value, dict) and value.get("infinite"):
            yield f"job.{name}: cannot be infinite; remove it"
        elif name in _SHORT and _size(value) > MAX_TEXT:
            yield f"job.{name}: {_size(value)} bytes long; the maximum is {MAX_TEXT}"
    partition = job.get("partition", None)
    if partition == "":
        yield "job.partition: empty"
    elif isinstance(partition, str) and "," in partition and partition.startswith("p_"):
        yield "job.partition: lists several, but a job is for one backend"


def _fits(value: object, kind: Type) -> bool:
    match kind:
        case "text":
            return isinstance(value, str)
        case "integer":
            return type(value) is int
        case "boolean":
            return isinstance(value, bool)
        case "texts":
            return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        case "number":
            return type(value) is int or _is_number_object(value)
        case "nodes":
            return type(value) is int or (isinstance(value, str) and _NODES.fullmatch(value) is not None)
        case "environment":
            return isinstance(value, list | dict)
        case "object":
            return isinstance(value, dict)


def _is_number_object(value: object) -> bool:
    types = {"set": bool, "infinite": bool, "number": int}
    return isinstance(value, dict) and all(type(part) is types.get(name) for name, part in value.items())


def _environment(environment: object) -> Iterator[str]:
    if environment is None or environment in ([], {}):
        yield 'job.environment: missing; Slurm requires one, at least "PATH=/usr/bin:/bin"'
        return
    if isinstance(environment, dict):
        for name, value in environment.items():
            if not isinstance(value, str):
                yield f"job.environment.{name}: must be a string, not {_shown(value)}"
            else:
                yield from _variable(f"job.environment.{name}", name, value)
    elif isinstance(environment, list):
        for index, entry in enumerate(environment):
            name, equals, value = entry.partition("=") if isinstance(entry, str) else ("", "", "")
            if not (name and equals):
                yield f'job.environment[{index}]: must be "NAME=value", not {_shown(entry)}'
            else:
                yield from _variable(f"job.environment[{index}]", name, value)


def _variable(path: str, name: str, value: str) -> Iterator[str]:
    if not name or "=" in name:
        yield f"{path}: {name!r} is not a valid variable name"
    if name in _TOKENS:
        yield f"{path}: tokens are never sent with a job; remove {name}"
    if (size := _size(name) + 1 + _size(value)) > MAX_VARIABLE:
        yield f"{path}: {size} bytes long; the maximum is {MAX_VARIABLE}; put data into the script"


def _script(payload: Mapping[str, Any], job: Mapping[str, Any]) -> Iterator[str]:
    if "script" in payload and "script" in job:
        yield "script: given twice, in the payload and in its job"
        return
    path = "job.script" if "script" in job else "script"
    script = job.get("script", payload.get("script"))
    if script is None:
        yield f"{path}: missing"
    elif not isinstance(script, str):
        if path == "script":  # `_fields` has reported job.script
            yield f"{path}: must be a string, not {_shown(script)}"
    elif not script:
        yield f"{path}: empty"
    elif not script.startswith("#!"):
        yield f'{path}: must start with "#!" and a program, such as "#!/bin/bash"'
    elif (size := _size(script)) > MAX_SCRIPT:
        yield f"{path}: {size} bytes long; the maximum is {MAX_SCRIPT} (4 MiB)"
    elif line := dos_line(script):
        yield f"{path}: line {line} ends in a Windows line break (\\r\\n); convert the file with dos2unix"


def dos_line(script: str) -> int:
    """The first line of a batch script with a CR or CRLF line break, from 1; 0 if none.

    sbatch refuses CRLF line breaks, slurmrestd does not, and bash then misreads the script.
    """
    match = _CARRIAGE_RETURN.search(script)
    return script.count("\n", 0, match.start()) + 1 if match else 0


def _unsendable(value: object, path: str) -> Iterator[str]:
    """Report NULs, which truncate strings in Slurm, and lone surrogates, also in names."""
    if isinstance(value, str):
        if "\0" in value:
            yield f"{path or 'payload'}: contains a NUL character"
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            yield f"{path or 'payload'}: contains invalid Unicode; save the file as UTF-8"
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _unsendable(name, f"the name {name!r} in {path or 'the payload'}")
            yield from _unsendable(part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _unsendable(part, f"{path}[{index}]")


def _nearest(name: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name).lower(), list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _shown(value: object) -> str:
    """A value shortened for a message."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
