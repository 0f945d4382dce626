"""What a job has measured or computed, as one plain record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    """The result of a job that completed; what its kind does not have is empty.

    `counts` says how often a circuit's classical bits had each value, `raw_data` holds the value of each shot if it was
    asked for. `final_result` is what a hybrid file's `finalize` returned, `executions` how many circuits it had
    executed. `shots` are those of all circuits together. `remarks` say what is to be known of the result, such as that
    null stands for NaN in it. An array or a sweep has `tasks`, a result for each by index,
    with the `parameters` that the sweep gave it.
    """

    job_id: int
    kind: str
    shots: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    raw_data: list[str] | None = None
    final_result: Any = None
    executions: int = 0
    parameters: dict[str, str] = field(default_factory=dict)
    tasks: list[Result] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def result_of(document: dict[str, Any]) -> Result:
    """The record of a job manager's result document (`GET /v1/jobs/ID/results`)."""
    return Result(
        job_id=int(document["job_id"]),
        kind=str(document["kind"]),
        shots=int(document.get("shots") or 0),
        counts=dict(document.get("counts") or {}),
        raw_data=document.get("raw_data"),
        final_result=document.get("final_result"),
        executions=int(document.get("executions") or (document["kind"] == "circuit")),
        parameters=dict(document.get("parameters") or {}),
        remarks=list(document.get("remarks") or []),
    )
