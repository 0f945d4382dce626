"""The keyword arguments of `Center.submit`, `map` and `session`, for editors and type checkers.

`qslurm/payload/spec.py` declares the options; `tests/unit/c1/api/test_job_keywords.py` fails if one is missing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypedDict


class SessionKeywords(TypedDict, total=False):
    """Options of the job that holds a session. `job_name` and `name`, `time` and `time_limit` are the same option."""

    backend: str | None
    qubits: int | None
    partition: str | None
    job_name: str | None
    name: str | None
    seed: int | None
    time: str | None
    time_limit: str | None
    qpu_seconds: float | None
    account: str | None
    qos: str | None
    reservation: str | None


class JobKeywords(SessionKeywords, total=False):
    """Options of a job. `set` and `variables` are the same option."""

    template: str | None
    set: Mapping[str, object] | None
    variables: Mapping[str, object] | None
    shots: int | None
    raw_data: bool | None
    dependency: str | None
    array: str | None
    sweep: Mapping[str, str | Iterable[object]] | None
    begin: str | None
    hold: bool | None
    comment: str | None
    export: str | None
