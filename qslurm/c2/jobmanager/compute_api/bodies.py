"""The Compute API's documents: requests and responses.

Names and types are those of the published client (`compute_api_client`), which is strict: no field may be missing,
and an int is not a float.
"""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from qslurm.c2.jobmanager.compute_api.api_records import ApiRecord
from qslurm.c2.jobmanager.compute_api.runner import MeasuredCircuit, Progress
from qslurm.protocol.messages import BackendStatus
from qslurm.runtimes.simulated_backend import backend_type as described

Name = Annotated[str, msgspec.Meta(max_length=255)]
Words = Annotated[str, msgspec.Meta(max_length=4096)]
Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Document = dict[str, Any]

PROPERTIES = 16 * 1024
"""Maximum bytes of a file's compile properties, which are only stored."""

LANGUAGES = [
    {"id": 1, "name": "cqasm", "version": "3.0"},
    {"id": 2, "name": "python", "version": "3.11"},
]
CQASM, PYTHON = 1, 2


class ProjectIn(msgspec.Struct):
    """POST /projects."""

    owner_id: Id
    name: Name
    description: Words
    starred: bool = False


class ProjectPatch(msgspec.Struct, omit_defaults=True):
    """PATCH /projects/ID: the fields to change."""

    name: Name | None = None
    description: Words | None = None
    starred: bool | None = None


class AlgorithmIn(msgspec.Struct):
    """POST /algorithms."""

    project_id: Id
    type: Literal["hybrid", "quantum"]
    shared: Literal["private", "link_only", "team"]
    name: Name
    link: Name | None = None


class CommitIn(msgspec.Struct):
    """POST /commits."""

    description: Words
    algorithm_id: Id


class FileIn(msgspec.Struct):
    """POST /files."""

    commit_id: Id
    content: str
    language_id: Id
    compile_stage: Literal["none", "decomposition", "mapping", "optimization", "routing"]
    compile_properties: msgspec.Raw
    generated: bool = False
    name: Name | None = None

    def __post_init__(self) -> None:
        """Refuse properties that are not an object or too large."""
        if len(self.compile_properties) > PROPERTIES:
            raise ValueError(f"compile_properties is limited to {PROPERTIES >> 10} KiB")
        self.fields()

    def fields(self) -> dict[str, Any]:
        """The record's fields, without the text."""
        properties = msgspec.json.decode(self.compile_properties, type=dict[str, Any])
        names = ("commit_id", "language_id", "compile_stage", "generated", "name")
        return {name: getattr(self, name) for name in names} | {"compile_properties": properties}


class BatchJobIn(msgspec.Struct):
    """POST /batch_jobs."""

    backend_type_id: Id


class JobIn(msgspec.Struct):
    """POST /jobs."""

    file_id: Id
    batch_job_id: Id
    number_of_shots: Annotated[int, msgspec.Meta(ge=1, lt=2**53)] | None = None
    raw_data_enabled: bool | None = False


class JobPatch(msgspec.Struct):
    """PATCH /jobs/ID: cancels a job."""

    status: Literal["cancelled"]


def record(kept: ApiRecord) -> Document:
    """A record with its id and creation time."""
    return {"id": kept.id, "created_on": moment(kept.created), **kept.fields}


def project(kept: ApiRecord, center: str) -> Document:
    """A project. Its owner is the center, whatever the client sent."""
    return {**record(kept), "owner_id": member_number(center)}


def file(kept: ApiRecord, text: str) -> Document:
    """A file with its text."""
    return {**record(kept), "content": text}


def commit(kept: ApiRecord) -> Document:
    """A commit."""
    return {**record(kept), "hash": f"{kept.id:08x}"}


def batch_job(kept: ApiRecord, jobs: dict[int, Progress], center: str, kind: str) -> Document:
    """A batch, with its jobs' progress."""
    begun = kept["queued_at"]
    over = bool(jobs) and all(one.finished_at is not None for one in jobs.values())
    ends = [one.finished_at for one in jobs.values() if one.finished_at is not None]
    running = any(one.status != "planned" for one in jobs.values())
    status = "planned" if begun is None else "finished" if over else "running" if running else "queued"
    return {
        **record(kept),
        "status": status,
        "user_id": member_number(center),
        "backend_id": None,
        "queued_at": moment(begun),
        "reserved_at": None,
        "finished_at": moment(max(ends)) if over else None,
        "job_ids": list(jobs),
        "aggregated_algorithm_type": kind,
    }


def job(kept: ApiRecord, progress: Progress, kind: str, queued_at: float | None) -> Document:
    """A job."""
    return {
        "id": kept.id,
        "created_on": moment(kept.created),
        "file_id": kept["file_id"],
        "algorithm_type": kind,
        "status": progress.status,
        "batch_job_id": kept["batch_job_id"],
        "queued_at": moment(queued_at),
        "finished_at": moment(progress.finished_at),
        "number_of_shots": kept["number_of_shots"],
        "raw_data_enabled": kept["raw_data_enabled"],
        "session_id": "" if kept["run"] is None else str(kept["run"]),
        "trace_id": "" if kept["run"] is None else str(kept["run"]),
        "message": progress.message,
        "source": "",
    }


def result(measured: MeasuredCircuit, job_id: int) -> Document:
    """One circuit's result."""
    return {
        "id": measured.number,
        "created_on": moment(measured.at),
        "job_id": job_id,
        "execution_time_in_seconds": measured.seconds,
        "shots_requested": measured.shots_requested,
        "shots_done": measured.shots_done,
        "results": measured.counts,
        "raw_data": measured.raw_data,
    }


def backend_type(backend: BackendStatus) -> Document:
    """A backend as a backend type."""
    known = described(
        backend.name,
        qubits=backend.qubits,
        max_shots=backend.max_shots,
        default_shots=backend.default_shots,
    )
    messages = {backend.name[:32]: {"content": backend.reason}} if backend.reason else {}
    return {
        **dict(known.items()),
        "id": number_of(backend.name),
        "name": backend.name[:32],
        "identifier": backend.name[:32],
        "description": backend.name,
        "status": backend.state,
        "messages": messages,
        "max_jobs_per_batch_job": 100,
        "batchjobs_per_queue_limit": 100,
    }


def number_of(name: str) -> int:
    """A backend's id: derived from its name, so that it does not depend on the configuration, and short."""
    return zlib.crc32(name.encode()) % 1_000_000


def member_number(center: str) -> int:
    """The id of a center's single member."""
    return number_of(f"center {center}")


def moment(seconds: float | None) -> str | None:
    """A time in the API's format."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
