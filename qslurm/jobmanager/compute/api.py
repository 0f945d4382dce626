"""The part of Quantum Inspire's Compute API that its clients use, for jobs of this C2.

A client puts up a project, an algorithm in it, a commit, a file, a batch and a job, and enqueues the batch. At that
moment the job is submitted to C2's Slurm in the center's name, like any other; the API's answers about it are read
from there. Nothing is executed past Slurm. docs/decisions/compute-api.md says what is covered, and what is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qslurm.errors import QslurmError, RefusedError
from qslurm.eventlog import EventLog
from qslurm.jobmanager.compute import bodies
from qslurm.jobmanager.compute.bodies import Document
from qslurm.jobmanager.compute.http import Ask, auth_config, no_login, page, well_known
from qslurm.jobmanager.compute.problems import NoSuchThingError, OddRequestError, error_response, respond
from qslurm.jobmanager.compute.records import Kind, Record, Records
from qslurm.jobmanager.compute.runner import OVER, Caller, Progress, Runner
from qslurm.jobmanager.compute.submission import check_job, job_spec

log = EventLog(__name__)

_BODY_LIMIT = 4 * 1024 * 1024  # bytes; a batch script of Slurm's is no longer
_LOG_PAGE = 200
_PARENTS: dict[Kind, tuple[Kind, str]] = {
    "algorithm": ("project", "project_id"),
    "commit": ("algorithm", "algorithm_id"),
    "file": ("commit", "commit_id"),
    "job": ("file", "file_id"),
}


class ComputeApi:
    """The endpoints. `authenticate` says who asks, or raises a TokenError."""

    def __init__(self, records: Records, runner: Runner, authenticate: Callable[[Request], Caller]) -> None:
        self._records = records
        self._runner = runner
        self._authenticate = authenticate

    def routes(self) -> list[Route]:
        """The paths, as the official client asks for them."""
        return [
            Route("/auth_config", auth_config, methods=["GET"]),
            Route("/oidc/.well-known/openid-configuration", well_known, methods=["GET"]),
            Route("/oidc/{what}", no_login, methods=["POST"]),
            self._route("GET", "/members", self._members),
            self._route("GET", "/languages", self._languages),
            self._route("GET", "/backend_types/", self._backend_types, public=True),
            self._route("GET", "/backend_types/{id}", self._backend_type),
            self._route("GET", "/backend_types/{id}/queue", self._queue),
            self._route("POST", "/projects", self._create("project", bodies.ProjectIn), 201),
            self._route("GET", "/projects", self._list("project")),
            self._route("GET", "/projects/{id}", self._read("project")),
            self._route("PATCH", "/projects/{id}", self._patch_project),
            self._route("DELETE", "/projects/{id}", self._delete_project, 204),
            self._route("POST", "/algorithms", self._create("algorithm", bodies.AlgorithmIn), 201),
            self._route("GET", "/algorithms", self._list("algorithm")),
            self._route("GET", "/algorithms/{id}", self._read("algorithm")),
            self._route("PUT", "/algorithms/{id}", self._put_algorithm),
            self._route("POST", "/commits", self._create("commit", bodies.CommitIn), 201),
            self._route("GET", "/commits/{id}", self._read("commit")),
            self._route("POST", "/files", self._create("file", bodies.FileIn), 201),
            self._route("GET", "/files", self._list("file")),
            self._route("GET", "/files/{id}", self._read("file")),
            self._route("POST", "/batch_jobs", self._create_batch, 201),
            self._route("GET", "/batch_jobs", self._list("batch_job")),
            self._route("PATCH", "/batch_jobs/{id}/enqueue", self._enqueue),
            self._route("POST", "/jobs", self._create_job, 201),
            self._route("GET", "/jobs", self._list("job")),
            self._route("GET", "/jobs/{id}", self._read("job")),
            self._route("PATCH", "/jobs/{id}", self._cancel),
            self._route("GET", "/jobs/{id}/logs", self._logs),
            self._route("GET", "/results/job/{id}", self._results),
            self._route("GET", "/final_results/job/{id}", self._final_result),
        ]

    def _route(
        self, method: str, path: str, answer: Callable[[Ask], Any], status: int = 200, *, public: bool = False
    ) -> Route:
        def work(request: Request, body: bytes) -> Response:
            caller = Caller("", "")
            try:
                if not public:
                    caller = self._authenticate(request)
                return respond(answer(Ask(caller, request, body)), status)
            except QslurmError as error:
                if error.kind == QslurmError.kind:
                    about = {"center": caller.center, "record": request.path_params.get("id")}
                    log.warning("request failed", **about, method=method, path=path, why=str(error))
                return error_response(error)

        async def endpoint(request: Request) -> Response:
            body = bytearray()
            async for piece in request.stream():
                body += piece
                if len(body) > _BODY_LIMIT:
                    return error_response(OddRequestError(f"More than {_BODY_LIMIT >> 20} MiB at once."))
            return await run_in_threadpool(work, request, bytes(body))

        return Route(path, endpoint, methods=[method])

    # --- the platform --------------------------------------------------------------------------------

    def _members(self, ask: Ask) -> Document:
        number = bodies.member_number(ask.center)
        member = {"id": number, "team_id": number, "user_id": number, "role": "member", "is_active": True}
        return page(ask, [member], dict)

    def _languages(self, ask: Ask) -> Document:
        return page(ask, bodies.LANGUAGES, dict)

    def _backend_types(self, ask: Ask) -> Document:
        """All backends. The official client asks without a token, and so is told no reasons."""
        types = [bodies.backend_type(one) | {"messages": {}} for one in self._runner.backends()]
        return page(ask, sorted(types, key=lambda one: int(one["id"])), dict)

    def _backend_type(self, ask: Ask) -> Document:
        return bodies.backend_type(self._backend(ask.id))

    def _queue(self, ask: Ask) -> Document:
        waits = ("min_wait_time_in_queue_secs", "avg_wait_time_in_queue_secs", "max_wait_time_in_queue_secs")
        queued = self._backend(ask.id).queued
        return {"number_of_jobs_in_queue": queued, **dict.fromkeys(waits, 0.0)}

    def _backend(self, number: int) -> Any:
        for one in self._runner.backends():
            if bodies.number_of(one.name) == number:
                return one
        raise NoSuchThingError(f"There is no backend type {number}.")

    # --- records -------------------------------------------------------------------------------------

    def _create(self, kind: Kind, body: type[msgspec.Struct]) -> Callable[[Ask], Document]:
        def create(ask: Ask) -> Document:
            fields = msgspec.to_builtins(ask.read(body))
            self._refuse_orphan(ask, kind, fields)
            return self._document(ask, kind, self._records.put(ask.center, kind, fields))

        return create

    def _read(self, kind: Kind) -> Callable[[Ask], Document]:
        return lambda ask: self._document(ask, kind, self._record(ask, kind, ask.id))

    def _list(self, kind: Kind) -> Callable[[Ask], Document]:
        def listed(ask: Ask) -> Document:
            if "id" in ask.query:
                one = self._records.get(ask.center, kind, ask.number("id", 0, 2**62))
                kept = [one] if one is not None else []
            else:
                kept = self._records.all(ask.center, kind)
            return page(ask, kept, lambda one: self._document(ask, kind, one))

        return listed

    def _patch_project(self, ask: Ask) -> Document:
        kept = self._record(ask, "project", ask.id)
        changes = {
            name: value
            for name, value in msgspec.to_builtins(ask.read(bodies.ProjectPatch)).items()
            if value is not None
        }
        return self._document(ask, "project", self._records.update(ask.center, kept, **changes))

    def _delete_project(self, ask: Ask) -> None:
        """Remove a project with all that is in it, but its jobs: they are Slurm's."""
        doomed = [self._record(ask, "project", ask.id)]
        inside: tuple[Kind, ...] = ("algorithm", "commit", "file")
        for kind in inside:
            parent_field = _PARENTS[kind][1]
            for one in doomed:
                self._records.delete(ask.center, one.id)
            doomed = [
                child
                for one in doomed
                for child in self._records.where(ask.center, kind, parent_field, one.id)
            ]
        for one in doomed:
            self._records.delete(ask.center, one.id)

    def _put_algorithm(self, ask: Ask) -> Document:
        kept = self._record(ask, "algorithm", ask.id)
        fields = msgspec.to_builtins(ask.read(bodies.AlgorithmIn))
        self._refuse_orphan(ask, "algorithm", fields)
        return self._document(ask, "algorithm", self._records.update(ask.center, kept, **fields))

    # --- batches and jobs ----------------------------------------------------------------------------

    def _create_batch(self, ask: Ask) -> Document:
        fields = {"backend_type_id": ask.read(bodies.BatchJobIn).backend_type_id, "queued_at": None}
        self._backend(fields["backend_type_id"] or 0)
        return self._document(ask, "batch_job", self._records.put(ask.center, "batch_job", fields))

    def _create_job(self, ask: Ask) -> Document:
        from qslurm.payload.comment import new_key

        asked = ask.read(bodies.JobIn)
        file = self._record(ask, "file", asked.file_id)
        batch = self._record(ask, "batch_job", asked.batch_job_id)
        if batch["queued_at"] is not None:
            raise RefusedError(f"Batch {batch.id} has been enqueued already.")
        backend = self._backend(batch["backend_type_id"])
        check_job(file, asked, backend)
        fields = msgspec.to_builtins(asked) | {
            "raw_data_enabled": bool(asked.raw_data_enabled),
            "key": new_key(),
            "run": None,
            "over": None,
        }
        return self._document(ask, "job", self._records.put(ask.center, "job", fields))

    def _enqueue(self, ask: Ask) -> Document:
        """Submit a batch's jobs. Asked again after it broke off in the middle, it goes on: each job has its key."""
        batch = self._record(ask, "batch_job", ask.id)
        if batch["queued_at"] is not None:
            raise OddRequestError(f"Batch {batch.id} has been enqueued already.")
        jobs = self._jobs_of(ask, batch)
        if not jobs:
            raise OddRequestError(f"Batch {batch.id} has no jobs.")
        backend = self._backend(batch["backend_type_id"])
        for job in jobs:
            if job["run"] is None and job["over"] is None:
                self._submit(ask, job, backend.name)
        batch = self._records.update(ask.center, batch, queued_at=time.time())
        return self._document(ask, "batch_job", batch)

    def _submit(self, ask: Ask, job: Record, backend: str) -> None:
        file = self._record(ask, "file", job["file_id"])
        try:
            run = self._runner.begin(ask.caller, job_spec(job, file, backend))
        except RefusedError as error:
            over = Progress("failed", str(error), time.time())
            self._records.update(ask.center, job, over=msgspec.to_builtins(over))
        else:
            self._records.update(ask.center, job, run=run)

    def _cancel(self, ask: Ask) -> Document:
        ask.read(bodies.JobPatch)
        job = self._record(ask, "job", ask.id)
        progress = self._progress(ask, job)
        if progress.status in OVER:
            raise RefusedError(f"Job {job.id} is {progress.status} already.")
        if job["run"] is not None:
            self._runner.cancel(ask.caller, job["run"])
        over = Progress("cancelled", "", time.time())
        job = self._records.update(ask.center, job, over=msgspec.to_builtins(over))
        return self._document(ask, "job", job)

    def _progress(self, ask: Ask, job: Record) -> Progress:
        if job["over"] is not None:
            return msgspec.convert(job["over"], Progress)
        if job["run"] is None:
            return Progress("planned")
        progress = self._runner.progress(ask.caller, job["run"])
        if progress.status in OVER:
            self._records.update(ask.center, job, over=msgspec.to_builtins(progress))
        return progress

    def _jobs_of(self, ask: Ask, batch: Record) -> list[Record]:
        return self._records.where(ask.center, "job", "batch_job_id", batch.id)

    # --- what came of them ---------------------------------------------------------------------------

    def _results(self, ask: Ask) -> Document:
        job = self._record(ask, "job", ask.id)
        found = [] if job["run"] is None else self._runner.measured(ask.caller, job["run"])
        return page(ask, found, lambda one: bodies.result(one, job.id))

    def _final_result(self, ask: Ask) -> Document:
        job = self._record(ask, "job", ask.id)
        found = None if job["run"] is None else self._runner.final_result(ask.caller, job["run"])
        if found is None:
            raise NoSuchThingError(f"Job {job.id} has no final result.")
        ended = self._progress(ask, job).finished_at
        when = bodies.moment(job.created if ended is None else ended)
        return {"id": job.id, "created_on": when, "job_id": job.id, "final_result": found}

    def _logs(self, ask: Ask) -> Document:
        """What a job has written. Lines have no times here: they count on from the job's beginning."""
        job = self._record(ask, "job", ask.id)
        lines = [] if job["run"] is None else self._runner.log(ask.caller, job["run"])
        first = int(job.created * 1e9)
        start = max(0, ask.number("start", first, 2**62) - first)
        shown = lines[start : start + ask.number("limit", _LOG_PAGE, _LOG_PAGE)]
        logs = [{"timestamp": first + start + at, "line": line} for at, line in enumerate(shown)]
        return {"logs": logs, "next_start": first + start + len(logs) if logs else None}

    # --- helpers -------------------------------------------------------------------------------------

    def _record(self, ask: Ask, kind: Kind, number: int) -> Record:
        found = self._records.get(ask.center, kind, number)
        if found is None:
            raise NoSuchThingError(f"There is no {kind.replace('_', ' ')} {number}.")
        return found

    def _refuse_orphan(self, ask: Ask, kind: Kind, fields: dict[str, Any]) -> None:
        if kind in _PARENTS:
            parent, field = _PARENTS[kind]
            self._record(ask, parent, fields[field])

    def _document(self, ask: Ask, kind: Kind, kept: Record) -> Document:
        if kind == "project":
            return bodies.project(kept, ask.center)
        if kind == "commit":
            return bodies.commit(kept)
        if kind == "job":
            batch = self._records.get(ask.center, "batch_job", kept["batch_job_id"])
            queued_at = None if batch is None else batch["queued_at"]
            return bodies.job(kept, self._progress(ask, kept), self._type(ask, kept), queued_at)
        if kind == "batch_job":
            jobs = self._jobs_of(ask, kept)
            progress = {job.id: self._progress(ask, job) for job in jobs}
            return bodies.batch_job(kept, progress, ask.center, self._type(ask, *jobs[:1]))
        return bodies.record(kept)

    def _type(self, ask: Ask, *jobs: Record) -> str:
        files = [self._records.get(ask.center, "file", job["file_id"]) for job in jobs]
        python = any(file is not None and file["language_id"] == bodies.PYTHON for file in files)
        return "hybrid" if python else "quantum"
