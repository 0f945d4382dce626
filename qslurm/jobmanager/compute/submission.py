"""From a job of the Compute API to one of Slurm's."""

from __future__ import annotations

import re

from qslurm.dispatcher.messages import BackendStatus
from qslurm.errors import InvalidInputError
from qslurm.jobmanager.compute.bodies import CQASM, PYTHON, JobIn
from qslurm.jobmanager.compute.records import Record
from qslurm.payload.spec import JobSpec

_NAME = re.compile(r"[^A-Za-z0-9_.+-]+")


def check_job(file: Record, asked: JobIn, backend: BackendStatus) -> None:
    """InvalidInputError for a job that would fail: better now than after a long wait."""
    name = file_name(file)
    if file["language_id"] == CQASM:
        from qslurm.circuits.check import check_circuit

        check_circuit(
            file["content"],
            file=name,
            max_qubits=backend.qubits,
            max_shots=backend.max_shots,
            shots=asked.number_of_shots or 1,
        )
    elif file["language_id"] == PYTHON:
        from qslurm.runtimes.classical.hybrid_file import check_hybrid

        check_hybrid(file["content"], name)
    else:
        raise InvalidInputError(f"{name}: there is no language {file['language_id']} here.")


def job_spec(job: Record, file: Record, backend: str) -> JobSpec:
    """The job, as `qslurm submit` would send it."""
    circuit = file["language_id"] == CQASM
    name = file_name(file)
    return JobSpec(
        kind="circuit" if circuit else "hybrid",
        source=file["content"],
        file=name,
        name=name,
        backend=backend,
        shots=job["number_of_shots"] if circuit else None,
        raw_data=job["raw_data_enabled"] if circuit else False,
        key=job["key"],
        origin=f"compute-api::{job.id}:",
    )


def file_name(file: Record) -> str:
    """What a file is called in messages, and in Slurm's queue."""
    given = file["name"] if isinstance(file["name"], str) else ""
    return _NAME.sub("_", given)[:64] or f"file-{file.id}"
