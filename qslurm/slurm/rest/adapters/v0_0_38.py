"""v0.0.38 (Slurm 22.05), one step below v0.0.39.

Differences to v0.0.39, and what is done with each (seen on Slurm 22.05.8):

- `environment` is an object; a list is refused (400). Turned into an object; of a name given twice the last
  counts.
- `script` is allowed beside the job only ("Unknown key"). Moved there.
- `time_limit`, `time_minimum`, `priority` are plain numbers; an object is refused (9202). Turned into
  numbers. An infinite time limit is "UNLIMITED"; an unset one is left out.
- `begin_time` and `deadline` are texts that sbatch reads; Unix seconds are refused (2054). Turned into
  "uts<seconds>".
- `exclusive` is a text ("user", "mcs"), `mail_type` and `open_mode` are texts: lists are refused. Joined,
  lower-case where the server wants it.
- `kill_warning_signal`, `_delay` and `_flags` are one field, `signal` ("B:TERM@60").
- `maximum_nodes` is the second half of `nodes`, `minimum_nodes` its first.
- `argv` as a list, and `batch_features` with any value, crash slurmrestd 22.05.8. Never sent. (2300 jobs with unusual
  values, in each field of `FIELDS`, found no other crash.)
- An unknown key is refused (9001), a "disabled" one too (1). `FIELDS` has the allowed ones; any other is an
  InvalidInputError before anything is sent, because without it the job would be a different one.
- Jobs: limits and exit codes are plain numbers, an unset one is null. One reader serves both versions.
- Accounting: `users=` is refused (9000), so searches are by time; an unknown job is error 9003, status 200.
- Errors carry `error_code` for submissions, `errno` for partitions, `error_number` elsewhere. `classify.py` reads them.
- Only slurmdbd's paths need slurmdbd: 7000 with "Failed connecting to slurmdbd" while it or its database is down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qslurm.errors import InvalidInputError
from qslurm.slurm.rest.adapters import v0_0_39
from qslurm.slurm.rest.adapters.base import Adapter, Payload
from qslurm.slurm.rest.job_records import from_slurmctld, from_slurmdbd

FIELDS = frozenset(
    {
        "account",
        "account_gather_frequency",
        "array",
        "begin_time",
        "burst_buffer",
        "cluster_constraint",
        "comment",
        "constraints",
        "container",
        "core_specification",
        "cpu_binding",
        "cpu_frequency",
        "cpus_per_task",
        "current_working_directory",
        "deadline",
        "delay_boot",
        "dependency",
        "distribution",
        "environment",
        "exclusive",
        "hold",
        "licenses",
        "mail_type",
        "mail_user",
        "mcs_label",
        "memory_binding",
        "memory_per_cpu",
        "memory_per_node",
        "minimum_cpus_per_node",
        "name",
        "nice",
        "nodes",
        "open_mode",
        "oversubscribe",
        "partition",
        "prefer",
        "priority",
        "qos",
        "requeue",
        "reservation",
        "signal",
        "sockets_per_node",
        "standard_error",
        "standard_input",
        "standard_output",
        "tasks",
        "tasks_per_core",
        "tasks_per_node",
        "tasks_per_socket",
        "thread_specification",
        "threads_per_core",
        "time_limit",
        "time_minimum",
        "wait_all_nodes",
        "wckey",
    }
)
"""Job fields of v0.0.39 that v0.0.38 supports after the conversions above."""


def payload(source: Payload) -> Payload:
    """The payload for v0.0.38; InvalidInputError for fields that it lacks."""
    canonical = v0_0_39.payload(source)
    job = dict(canonical["job"])
    script = job.pop("script", None) or canonical.get("script")
    for name, step in _STEPS.items():
        if name in job and (value := step(job.pop(name))) is not None:
            job[name] = value
    _join_nodes(job)
    _join_signal(job)
    if unknown := sorted(set(job) - FIELDS):
        raise InvalidInputError(
            f"C2's API version (v0.0.38) has no field for {', '.join(f'job.{name}' for name in unknown)}.",
            hint="Remove it, or ask C2's operators for a newer slurmrestd.",
        )
    return {"job": job, "script": script}


def _environment(value: Any) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in value)


def _plain(value: Any) -> Any:
    """{set, infinite, number} as a number, UNLIMITED, or None (omit)."""
    if not isinstance(value, dict):
        return value
    if value.get("infinite"):
        return "UNLIMITED"
    return value.get("number") if value.get("set") else None


def _time(value: Any) -> Any:
    return f"uts{value}" if type(value) is int else value


def _joined(value: Any) -> Any:
    return ",".join(value) if isinstance(value, list) else value


def _lower(value: Any) -> Any:
    return str(_joined(value)).lower()


_STEPS: dict[str, Callable[[Any], Any]] = {
    "environment": _environment,
    "time_limit": _plain,
    "time_minimum": _plain,
    "priority": _plain,
    "memory_per_cpu": _plain,
    "memory_per_node": _plain,
    "begin_time": _time,
    "deadline": _time,
    "mail_type": _joined,
    "exclusive": _joined,
    "open_mode": _lower,
}


def _join_nodes(job: dict[str, Any]) -> None:
    least, most = job.pop("minimum_nodes", None), job.pop("maximum_nodes", None)
    if "nodes" not in job and (least or most):
        job["nodes"] = f"{least or 1}-{most}" if most else str(least)


def _join_signal(job: dict[str, Any]) -> None:
    name = job.pop("kill_warning_signal", None)
    delay = _plain(job.pop("kill_warning_delay", None))
    flags = job.pop("kill_warning_flags", None) or []
    if name:
        batch = "B:" if "BATCH_JOB" in flags else ""
        job["signal"] = f"{batch}{name}" + (f"@{delay}" if delay else "")


def search(user: str, since: int) -> str:
    """The path for accounting jobs since a time; this version cannot filter by user."""
    del user
    return f"start_time=uts{since}"


ADAPTER = Adapter("v0.0.38", payload, from_slurmctld, from_slurmdbd, search)
