"""The endpoints of Quantum Inspire's Compute API that its clients use.

A client creates a project, an algorithm, a commit, a file, a batch and a job, and enqueues the batch. Then the job is
submitted to C2's Slurm as the center's user, like all other jobs, and its progress is read from there.
docs/decisions/compute-api.md lists what is supported.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qslurm.c2.jobmanager.center_limits import NO_CENTER, CenterLimits
from qslurm.c2.jobmanager.compute_api import bodies
from qslurm.c2.jobmanager.compute_api.api_records import PARENTS, ApiRecord, ApiRecords, Kind, SqlCondition
from qslurm.c2.jobmanager.compute_api.api_request import (
    ApiRequest,
    auth_config,
    no_login,
    page,
    page_range,
    well_known,
)
from qslurm.c2.jobmanager.compute_api.bodies import Document
from qslurm.c2.jobmanager.compute_api.filters import FILTERS, PAGING, conditions, refuse_unknown
from qslurm.c2.jobmanager.compute_api.filters import order as order_of
from qslurm.c2.jobmanager.compute_api.filters import status as status_is
from qslurm.c2.jobmanager.compute_api.problems import (
    InvalidRequestError,
    UnknownRecordError,
    error_response,
    respond,
)
from qslurm.c2.jobmanager.compute_api.runner import OVER, ApiCaller, Progress, Runner
from qslurm.c2.jobmanager.compute_api.slurm_job import check_job, job_spec
from qslurm.c2.jobmanager.http import body_of
from qslurm.errors import QslurmError, RefusedError
from qslurm.protocol.messages import BackendStatus
from qslurm.system.event_log import EventLog

log = EventLog(__name__, per_minute=60)

_BODY_LIMIT = 4 * 1024 * 1024  # bytes: Slurm's limit of a batch script
_LOG_PAGE = 200
_MOST_JOBS = 100
"""Maximum jobs in a batch, as in backend types."""
_LISTED = {kind: PAGING | frozenset(known) for kind, known in FILTERS.items()}


class ComputeApi:
    """The endpoints. `authenticate` returns a request's caller, or raises TokenError."""

    def __init__(
        self,
        records: ApiRecords,
        runner: Runner,
        authenticate: Callable[[Request], ApiCaller],
        limits: CenterLimits,
        url: str,
    ) -> None:
        self._records = records
        self._runner = runner
        self._authenticate = authenticate
        self._limits = limits
        self._url = url
        self._checking_lock = threading.Lock()
        self._checking: dict[str, threading.Lock] = {}

    def routes(self) -> list[Route]:
        """The routes, as the official client requests them."""
        get, jobs = self._get, _LISTED["job"] | {"status"}
        types = PAGING | {"id", "name", "identifier", "status"}
        return [
            get("/auth_config", auth_config, public=True),
            get("/oidc/.well-known/openid-configuration", well_known, public=True),
            Route("/oidc/{what}", no_login, methods=["POST"]),
            get("/members", self._members, PAGING | {"id", "team_id", "role", "is_active"}),
            get("/languages", self._languages, PAGING | {"id", "name", "version"}),
            get("/backend_types/", self._backend_types, types, public=True),
            get("/backend_types/{id}", self._backend_type),
            get("/backend_types/{id}/queue", self._queue, frozenset({"user_only"})),
            self._route("POST", "/projects", self._create("project", bodies.ProjectIn), 201),
            get("/projects", self._list("project"), _LISTED["project"]),
            get("/projects/{id}", self._read("project")),
            self._route("PATCH", "/projects/{id}", self._patch_project),
            self._route("DELETE", "/projects/{id}", self._delete_project, 204),
            self._route("POST", "/algorithms", self._create("algorithm", bodies.AlgorithmIn), 201),
            get("/algorithms", self._list("algorithm"), _LISTED["algorithm"]),
            get("/algorithms/{id}", self._read("algorithm")),
            self._route("PUT", "/algorithms/{id}", self._put_algorithm),
            self._route("POST", "/commits", self._create("commit", bodies.CommitIn), 201),
            get("/commits/{id}", self._read("commit")),
            self._route("POST", "/files", self._create_file, 201),
            get("/files", self._list("file"), _LISTED["file"]),
            get("/files/{id}", self._read("file")),
            self._route("POST", "/batch_jobs", self._create_batch, 201),
            get("/batch_jobs", self._list("batch_job"), _LISTED["batch_job"]),
            self._route("PATCH", "/batch_jobs/{id}/enqueue", self._enqueue),
            self._route("POST", "/jobs", self._create_job, 201),
            get("/jobs", self._list("job"), jobs),
            get("/jobs/{id}", self._read("job")),
            self._route("PATCH", "/jobs/{id}", self._cancel),
            get("/jobs/{id}/logs", self._logs, frozenset({"start", "limit"})),
            get("/results/job/{id}", self._results, frozenset({"page", "size"})),
            get("/final_results/job/{id}", self._final_result),
        ]

    def _get(
        self,
        path: str,
        answer: Callable[[ApiRequest], Any],
        fields: frozenset[str] = frozenset(),
        *,
        public: bool = False,
    ) -> Route:
        return self._route("GET", path, answer, fields=fields, public=public)

    def _route(
        self,
        method: str,
        path: str,
        answer: Callable[[ApiRequest], Any],
        status: int = 200,
        *,
        fields: frozenset[str] = frozenset(),
        public: bool = False,
    ) -> Route:
        """An endpoint with these query fields. The caller is authenticated before the body is read."""

        async def endpoint(request: Request) -> Response:
            caller = ApiCaller(NO_CENTER, "")
            try:
                if not public:
                    caller = self._authenticate(request)
                self._limits.begin(request, caller.center)
                refuse_unknown(request.query_params.multi_items(), fields)
                await self._limits.turn(request)
                api_request = ApiRequest(caller, request, await body_of(request, _BODY_LIMIT), self._url)
                return await self._limits.work(caller.center, lambda: respond(answer(api_request), status))
            except QslurmError as error:
                if error.kind == QslurmError.kind:
                    about = {"center": caller.center, "record": request.path_params.get("id")}
                    log.warning("request failed", **about, method=method, path=path, why=str(error))
                return error_response(error)

        return Route(path, endpoint, methods=[method])

    # --- the platform --------------------------------------------------------------------------------

    def _members(self, request: ApiRequest) -> Document:
        number = bodies.member_number(request.center)
        member = {"id": number, "team_id": number, "user_id": number, "role": "member", "is_active": True}
        return page(request, [member])

    def _languages(self, request: ApiRequest) -> Document:
        return page(request, bodies.LANGUAGES)

    def _backend_types(self, request: ApiRequest) -> Document:
        """All backends, without reasons, since the official client sends no token here."""
        types = [bodies.backend_type(one) | {"messages": {}} for one in self._runner.backends()]
        return page(request, sorted(types, key=lambda one: int(one["id"])))

    def _backend_type(self, request: ApiRequest) -> Document:
        return bodies.backend_type(self._backend(request.id))

    def _queue(self, request: ApiRequest) -> Document:
        waits = ("min_wait_time_in_queue_secs", "avg_wait_time_in_queue_secs", "max_wait_time_in_queue_secs")
        queued = self._backend(request.id).queued
        return {"number_of_jobs_in_queue": queued, **dict.fromkeys(waits, 0.0)}

    def _backend(self, number: int) -> Any:
        for one in self._runner.backends():
            if bodies.number_of(one.name) == number:
                return one
        raise UnknownRecordError(f"Unknown backend type {number}.")

    # --- records -------------------------------------------------------------------------------------

    def _create(self, kind: Kind, body: type[msgspec.Struct]) -> Callable[[ApiRequest], Document]:
        def create(request: ApiRequest) -> Document:
            fields = msgspec.to_builtins(request.read(body))
            self._refuse_orphan(request, kind, fields)
            return self._document(request, kind, self._records.put(request.center, kind, fields))

        return create

    def _create_file(self, request: ApiRequest) -> Document:
        body = request.read(bodies.FileIn)
        fields, text = body.fields(), body.content
        self._refuse_orphan(request, "file", fields)
        return bodies.file(self._records.put(request.center, "file", fields, text), text)

    def _read(self, kind: Kind) -> Callable[[ApiRequest], Document]:
        return lambda request: self._document(request, kind, self._record(request, kind, request.id))

    def _list(self, kind: Kind) -> Callable[[ApiRequest], Document]:
        def listed(request: ApiRequest) -> Document:
            wanted = conditions(kind, request.query)
            if "status" in request.query:
                wanted.append(status_is(request.query["status"], OVER, self._open_jobs(request)))
            order = order_of(kind, request.query)
            part = page_range(request, *self._records.count(request.center, kind, wanted))
            kept = self._records.page(
                request.center, kind, wanted, order=order, first=part.first, most=part.size
            )
            if kind == "job":
                return part.document(self._jobs(request, kept))
            return part.document([self._document(request, kind, one) for one in kept])

        return listed

    def _patch_project(self, request: ApiRequest) -> Document:
        kept = self._record(request, "project", request.id)
        changes = {
            name: value
            for name, value in msgspec.to_builtins(request.read(bodies.ProjectPatch)).items()
            if value is not None
        }
        return self._document(request, "project", self._records.update(request.center, kept, **changes))

    def _delete_project(self, request: ApiRequest) -> None:
        """Delete a project with its records, except for its jobs, which are Slurm's."""
        self._records.delete_project(request.center, self._record(request, "project", request.id).id)

    def _put_algorithm(self, request: ApiRequest) -> Document:
        kept = self._record(request, "algorithm", request.id)
        fields = msgspec.to_builtins(request.read(bodies.AlgorithmIn))
        self._refuse_orphan(request, "algorithm", fields)
        return self._document(request, "algorithm", self._records.update(request.center, kept, **fields))

    # --- batches and jobs ----------------------------------------------------------------------------

    def _create_batch(self, request: ApiRequest) -> Document:
        fields = {"backend_type_id": request.read(bodies.BatchJobIn).backend_type_id, "queued_at": None}
        self._backend(fields["backend_type_id"] or 0)
        return self._document(request, "batch_job", self._records.put(request.center, "batch_job", fields))

    def _create_job(self, request: ApiRequest) -> Document:
        from qslurm.payload.comment import new_key

        body = request.read(bodies.JobIn)
        file = self._record(request, "file", body.file_id)
        batch = self._record(request, "batch_job", body.batch_job_id)
        if batch["queued_at"] is not None:
            raise RefusedError(f"Batch {batch.id} is already enqueued.")
        if len(self._jobs_of(request, batch)) >= _MOST_JOBS:
            raise InvalidRequestError(f"Batch {batch.id} already has {_MOST_JOBS} jobs, the limit.")
        self._check(request, file, body, self._backend(batch["backend_type_id"]))
        fields = msgspec.to_builtins(body) | {
            "raw_data_enabled": bool(body.raw_data_enabled),
            "key": new_key(),
            "run": None,
            "over": None,
        }
        return self._document(request, "job", self._records.put(request.center, "job", fields))

    def _check(
        self, request: ApiRequest, file: ApiRecord, body: bodies.JobIn, backend: BackendStatus
    ) -> None:
        """Check a job, one of a center's at a time: parsing a large circuit takes seconds."""
        with self._checking_lock:
            checking = self._checking.setdefault(request.center, threading.Lock())
        with checking:
            check_job(file, self._records.text(file), body, backend)

    def _enqueue(self, request: ApiRequest) -> Document:
        """Submit a batch's jobs. After an interruption a second request submits the rest: each job has a key."""
        batch = self._record(request, "batch_job", request.id)
        if batch["queued_at"] is not None:
            raise InvalidRequestError(f"Batch {batch.id} is already enqueued.")
        jobs = self._jobs_of(request, batch)
        if not jobs:
            raise InvalidRequestError(f"Batch {batch.id} has no jobs.")
        backend = self._backend(batch["backend_type_id"])
        for job in jobs:
            if job["run"] is None and job["over"] is None:
                self._submit(request, job, backend.name)
        batch = self._records.update(request.center, batch, queued_at=time.time())
        return self._document(request, "batch_job", batch)

    def _submit(self, request: ApiRequest, job: ApiRecord, backend: str) -> None:
        file = self._record(request, "file", job["file_id"])
        try:
            run = self._runner.begin(request.caller, job_spec(job, file, self._records.text(file), backend))
        except RefusedError as error:
            over = Progress("failed", str(error), time.time())
            self._records.update(request.center, job, over=msgspec.to_builtins(over))
        else:
            self._records.update(request.center, job, run=run)

    def _cancel(self, request: ApiRequest) -> Document:
        request.read(bodies.JobPatch)
        job = self._record(request, "job", request.id)
        progress = self._progress(request, job)[job.id]
        if progress.status in OVER:
            raise RefusedError(f"Job {job.id} is already {progress.status}.")
        if job["run"] is not None:
            self._runner.cancel(request.caller, job["run"])
        over = Progress("cancelled", "", time.time())
        job = self._records.update(request.center, job, over=msgspec.to_builtins(over))
        return self._document(request, "job", job)

    def _progress(self, request: ApiRequest, *jobs: ApiRecord) -> dict[int, Progress]:
        """Jobs' progress by their ids. That of ended jobs is stored."""
        found = {
            job.id: Progress("planned") if job["over"] is None else msgspec.convert(job["over"], Progress)
            for job in jobs
        }
        open_ones = [job for job in jobs if job["over"] is None and job["run"] is not None]
        known = self._runner.progress(request.caller, [job["run"] for job in open_ones]) if open_ones else {}
        for job in open_ones:
            found[job.id] = progress = known[job["run"]]
            if progress.status in OVER:
                self._records.update(request.center, job, over=msgspec.to_builtins(progress))
        return found

    def _open_jobs(self, request: ApiRequest) -> dict[int, Progress]:
        """Progress of the jobs that are enqueued and whose end is not stored."""
        begun = SqlCondition(
            "CAST(body AS TEXT) ->> 'over' IS NULL AND CAST(body AS TEXT) ->> 'run' IS NOT NULL"
        )
        return self._progress(request, *self._records.page(request.center, "job", [begun]))

    def _jobs_of(self, request: ApiRequest, batch: ApiRecord) -> list[ApiRecord]:
        return self._records.inside(request.center, "job", batch.id)

    def _jobs(self, request: ApiRequest, jobs: Sequence[ApiRecord]) -> list[Document]:
        progress = self._progress(request, *jobs)
        batches = {
            number: self._records.get(request.center, "batch_job", number)
            for number in {job["batch_job_id"] for job in jobs}
        }
        found = []
        for job in jobs:
            batch = batches[job["batch_job_id"]]
            queued_at = None if batch is None else batch["queued_at"]
            found.append(bodies.job(job, progress[job.id], self._type(request, job), queued_at))
        return found

    # --- what came of them ---------------------------------------------------------------------------

    def _results(self, request: ApiRequest) -> Document:
        job = self._record(request, "job", request.id)
        if job["run"] is None:
            return page_range(request, 0).document([])
        part = page_range(request, *self._runner.results(request.caller, job["run"]))
        most = min(part.size, part.total - part.first)  # excludes results that are newer than the count
        found = self._runner.measured(request.caller, job["run"], part.first, most) if most > 0 else []
        return part.document([bodies.result(one, job.id) for one in found])

    def _final_result(self, request: ApiRequest) -> Document:
        job = self._record(request, "job", request.id)
        found = None if job["run"] is None else self._runner.final_result(request.caller, job["run"])
        if found is None:
            raise UnknownRecordError(f"Job {job.id} has no final result.")
        ended = self._progress(request, job)[job.id].finished_at
        when = bodies.moment(job.created if ended is None else ended)
        return {"id": job.id, "created_on": when, "job_id": job.id, "final_result": found}

    def _logs(self, request: ApiRequest) -> Document:
        """A job's output. Its lines have no times: timestamps are line numbers added to the creation time."""
        job = self._record(request, "job", request.id)
        lines = [] if job["run"] is None else self._runner.log(request.caller, job["run"])
        first = int(job.created * 1e9)
        start = max(0, request.number("start", first, 2**62) - first)
        shown = lines[start : start + request.number("limit", _LOG_PAGE, _LOG_PAGE)]
        logs = [{"timestamp": first + start + at, "line": line} for at, line in enumerate(shown)]
        return {"logs": logs, "next_start": first + start + len(logs) if logs else None}

    # --- helpers -------------------------------------------------------------------------------------

    def _record(self, request: ApiRequest, kind: Kind, number: int) -> ApiRecord:
        found = self._records.get(request.center, kind, number)
        if found is None:
            raise UnknownRecordError(f"Unknown {kind.replace('_', ' ')} {number}.")
        return found

    def _refuse_orphan(self, request: ApiRequest, kind: Kind, fields: dict[str, Any]) -> None:
        if kind in PARENTS:
            parent, field = PARENTS[kind]
            self._record(request, parent, fields[field])

    def _document(self, request: ApiRequest, kind: Kind, kept: ApiRecord) -> Document:
        if kind == "project":
            return bodies.project(kept, request.center)
        if kind == "commit":
            return bodies.commit(kept)
        if kind == "file":
            return bodies.file(kept, self._records.text(kept))
        if kind == "job":
            return self._jobs(request, [kept])[0]
        if kind == "batch_job":
            jobs = self._jobs_of(request, kept)
            return bodies.batch_job(
                kept, self._progress(request, *jobs), request.center, self._type(request, *jobs[:1])
            )
        return bodies.record(kept)

    def _type(self, request: ApiRequest, *jobs: ApiRecord) -> str:
        files = [self._records.get(request.center, "file", job["file_id"]) for job in jobs]
        python = any(file is not None and file["language_id"] == bodies.PYTHON for file in files)
        return "hybrid" if python else "quantum"
