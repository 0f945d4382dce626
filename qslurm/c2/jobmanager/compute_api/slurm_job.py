"""Converts a job of the Compute API to a job for Slurm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from qslurm.c2.jobmanager.compute_api.api_records import ApiRecord
from qslurm.c2.jobmanager.compute_api.bodies import CQASM, PYTHON, JobIn
from qslurm.errors import InvalidInputError
from qslurm.payload.envelope import Envelope
from qslurm.payload.spec import JobSpec
from qslurm.protocol.messages import BackendStatus

_NAME = re.compile(r"[^A-Za-z0-9_.+-]+")


def check_job(file: ApiRecord, text: str, body: JobIn, backend: BackendStatus) -> None:
    """InvalidInputError for a job that would fail, before it waits in the queue.

    A separate process with limits parses the file, as for a job's admission.
    """
    from qslurm.runtimes.quantum.circuit_reader import refusal_reason

    name, language = file_name(file), file["language_id"]
    if language not in {CQASM, PYTHON}:
        raise InvalidInputError(f"{name}: unknown language {language}.")
    kind: Literal["circuit", "hybrid"] = "circuit" if language == CQASM else "hybrid"
    shots = body.number_of_shots or 1
    if kind == "circuit" and shots > backend.max_shots:
        raise InvalidInputError(f"{name}: {shots} shots exceed the backend's limit of {backend.max_shots}.")
    if wrong := refusal_reason(Envelope(kind=kind, source=text, file=name), backend.qubits):
        raise InvalidInputError(wrong)


def job_spec(job: ApiRecord, file: ApiRecord, text: str, backend: str) -> JobSpec:
    """The job as `qslurm submit` would send it."""
    circuit = file["language_id"] == CQASM
    name = file_name(file)
    return JobSpec(
        kind="circuit" if circuit else "hybrid",
        source=text,
        file=Path(name),
        name=name,
        backend=backend,
        shots=job["number_of_shots"] if circuit else None,
        raw_data=job["raw_data_enabled"] if circuit else False,
        key=job["key"],
        origin=f"compute-api::{job.id}:",
    )


def file_name(file: ApiRecord) -> str:
    """A file's name for messages and for Slurm's job name."""
    name = file["name"] if isinstance(file["name"], str) else ""
    return _NAME.sub("_", name)[:64] or f"file-{file.id}"
