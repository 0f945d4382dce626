"""The result of a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    """The result of a job that completed; fields that its kind does not have are empty.

    `counts`: how often a circuit's classical bits had each value. `raw_data`: the value of each shot, if the option was
    set. `final_result`: the return value of a hybrid file's `finalize`. `executions`: the number of circuits executed.
    `shots`: their total number of shots. `remarks`: notes on the result, for example that null stands for NaN. `tasks`:
    the results of an array's or a sweep's tasks by index, each with the sweep's `parameters`.
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
    """Convert a result document of the job manager (`GET /v1/jobs/ID/results`)."""
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
