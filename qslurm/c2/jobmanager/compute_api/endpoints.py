"""The part of Quantum Inspire's Compute API that its clients use, for jobs of this C2.

A client puts up a project, an algorithm in it, a commit, a file, a batch and a job, and enqueues the batch. At that
moment the job is submitted to C2's Slurm in the center's name, like any other; the API's answers about it are read
from there. Nothing is executed past Slurm. docs/decisions/compute-api.md says what is covered, and what is not.
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
    cut,
    no_login,
    page,
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

_BODY_LIMIT = 4 * 1024 * 1024  # bytes; a batch script of Slurm's is no longer
_LOG_PAGE = 200
_MOST_JOBS = 100
"""Jobs in a batch, as backend types say it."""
_LISTED = {kind: PAGING | frozenset(known) for kind, known in FILTERS.items()}


class ComputeApi:
    """The endpoints. `authenticate` says who asks, or raises a TokenError."""

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
        """The paths, as the official client asks for them."""
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
        """An endpoint; its query may have these fields. Who asks is known before the body is read."""

        async def endpoint(request: Request) -> Response:
            caller = ApiCaller(NO_CENTER, "")
            try:
                if not public:
                    caller = self._authenticate(request)
                self._limits.begin(request, caller.center)
                refuse_unknown(request.query_params.multi_items(), fields)
                await self._limits.turn(request)
                ask = ApiRequest(caller, request, await body_of(request, _BODY_LIMIT), self._url)
                return await self._limits.work(caller.center, lambda: respond(answer(ask), status))
            except QslurmError as error:
                if error.kind == QslurmError.kind:
                    about = {"center": caller.center, "record": request.path_params.get("id")}
                    log.warning("request failed", **about, method=method, path=path, why=str(error))
                return error_response(error)

        return Route(path, endpoint, methods=[method])

    # --- the platform --------------------------------------------------------------------------------

    def _members(self, ask: ApiRequest) -> Document:
        number = bodies.member_number(ask.center)
        member = {"id": number, "team_id": number, "user_id": number, "role": "member", "is_active": True}
        return page(ask, [member])

    def _languages(self, ask: ApiRequest) -> Document:
        return page(ask, bodies.LANGUAGES)

    def _backend_types(self, ask: ApiRequest) -> Document:
        """All backends. The official client asks without a token, and so is told no reasons."""
        types = [bodies.backend_type(one) | {"messages": {}} for one in self._runner.backends()]
        return page(ask, sorted(types, key=lambda one: int(one["id"])))

    def _backend_type(self, ask: ApiRequest) -> Document:
        return bodies.backend_type(self._backend(ask.id))

    def _queue(self, ask: ApiRequest) -> Document:
        waits = ("min_wait_time_in_queue_secs", "avg_wait_time_in_queue_secs", "max_wait_time_in_queue_secs")
        queued = self._backend(ask.id).queued
        return {"number_of_jobs_in_queue": queued, **dict.fromkeys(waits, 0.0)}

    def _backend(self, number: int) -> Any:
        for one in self._runner.backends():
            if bodies.number_of(one.name) == number:
                return one
        raise UnknownRecordError(f"Unknown backend type {number}.")

    # --- records -------------------------------------------------------------------------------------

    def _create(self, kind: Kind, body: type[msgspec.Struct]) -> Callable[[ApiRequest], Document]:
        def create(ask: ApiRequest) -> Document:
            fields = msgspec.to_builtins(ask.read(body))
            self._refuse_orphan(ask, kind, fields)
            return self._document(ask, kind, self._records.put(ask.center, kind, fields))

        return create

    def _create_file(self, ask: ApiRequest) -> Document:
        asked = ask.read(bodies.FileIn)
        fields, text = asked.fields(), asked.content
        self._refuse_orphan(ask, "file", fields)
        return bodies.file(self._records.put(ask.center, "file", fields, text), text)

    def _read(self, kind: Kind) -> Callable[[ApiRequest], Document]:
        return lambda ask: self._document(ask, kind, self._record(ask, kind, ask.id))

    def _list(self, kind: Kind) -> Callable[[ApiRequest], Document]:
        def listed(ask: ApiRequest) -> Document:
            wanted = conditions(kind, ask.query)
            if "status" in ask.query:
                wanted.append(status_is(ask.query["status"], OVER, self._open_jobs(ask)))
            order = order_of(kind, ask.query)
            which = cut(ask, *self._records.count(ask.center, kind, wanted))
            kept = self._records.page(
                ask.center, kind, wanted, order=order, first=which.first, most=which.size
            )
            if kind == "job":
                return which.document(self._jobs(ask, kept))
            return which.document([self._document(ask, kind, one) for one in kept])

        return listed

    def _patch_project(self, ask: ApiRequest) -> Document:
        kept = self._record(ask, "project", ask.id)
        changes = {
            name: value
            for name, value in msgspec.to_builtins(ask.read(bodies.ProjectPatch)).items()
            if value is not None
        }
        return self._document(ask, "project", self._records.update(ask.center, kept, **changes))

    def _delete_project(self, ask: ApiRequest) -> None:
        """Remove a project with all that is in it, but its jobs: they are Slurm's."""
        self._records.delete_project(ask.center, self._record(ask, "project", ask.id).id)

    def _put_algorithm(self, ask: ApiRequest) -> Document:
        kept = self._record(ask, "algorithm", ask.id)
        fields = msgspec.to_builtins(ask.read(bodies.AlgorithmIn))
        self._refuse_orphan(ask, "algorithm", fields)
        return self._document(ask, "algorithm", self._records.update(ask.center, kept, **fields))

    # --- batches and jobs ----------------------------------------------------------------------------

    def _create_batch(self, ask: ApiRequest) -> Document:
        fields = {"backend_type_id": ask.read(bodies.BatchJobIn).backend_type_id, "queued_at": None}
        self._backend(fields["backend_type_id"] or 0)
        return self._document(ask, "batch_job", self._records.put(ask.center, "batch_job", fields))

    def _create_job(self, ask: ApiRequest) -> Document:
        from qslurm.payload.comment import new_key

        asked = ask.read(bodies.JobIn)
        file = self._record(ask, "file", asked.file_id)
        batch = self._record(ask, "batch_job", asked.batch_job_id)
        if batch["queued_at"] is not None:
            raise RefusedError(f"Batch {batch.id} is already enqueued.")
        if len(self._jobs_of(ask, batch)) >= _MOST_JOBS:
            raise InvalidRequestError(f"Batch {batch.id} already has {_MOST_JOBS} jobs, the limit.")
        self._check(ask, file, asked, self._backend(batch["backend_type_id"]))
        fields = msgspec.to_builtins(asked) | {
            "raw_data_enabled": bool(asked.raw_data_enabled),
            "key": new_key(),
            "run": None,
            "over": None,
        }
        return self._document(ask, "job", self._records.put(ask.center, "job", fields))

    def _check(self, ask: ApiRequest, file: ApiRecord, asked: bodies.JobIn, backend: BackendStatus) -> None:
        """Refuse what would fail, one of a center's files at a time: reading a large circuit takes seconds."""
        with self._checking_lock:
            checking = self._checking.setdefault(ask.center, threading.Lock())
        with checking:
            check_job(file, self._records.text(file), asked, backend)

    def _enqueue(self, ask: ApiRequest) -> Document:
        """Submit a batch's jobs. Asked again after it broke off in the middle, it goes on: each job has its key."""
        batch = self._record(ask, "batch_job", ask.id)
        if batch["queued_at"] is not None:
            raise InvalidRequestError(f"Batch {batch.id} is already enqueued.")
        jobs = self._jobs_of(ask, batch)
        if not jobs:
            raise InvalidRequestError(f"Batch {batch.id} has no jobs.")
        backend = self._backend(batch["backend_type_id"])
        for job in jobs:
            if job["run"] is None and job["over"] is None:
                self._submit(ask, job, backend.name)
        batch = self._records.update(ask.center, batch, queued_at=time.time())
        return self._document(ask, "batch_job", batch)

    def _submit(self, ask: ApiRequest, job: ApiRecord, backend: str) -> None:
        file = self._record(ask, "file", job["file_id"])
        try:
            run = self._runner.begin(ask.caller, job_spec(job, file, self._records.text(file), backend))
        except RefusedError as error:
            over = Progress("failed", str(error), time.time())
            self._records.update(ask.center, job, over=msgspec.to_builtins(over))
        else:
            self._records.update(ask.center, job, run=run)

    def _cancel(self, ask: ApiRequest) -> Document:
        ask.read(bodies.JobPatch)
        job = self._record(ask, "job", ask.id)
        progress = self._progress(ask, job)[job.id]
        if progress.status in OVER:
            raise RefusedError(f"Job {job.id} is already {progress.status}.")
        if job["run"] is not None:
            self._runner.cancel(ask.caller, job["run"])
        over = Progress("cancelled", "", time.time())
        job = self._records.update(ask.center, job, over=msgspec.to_builtins(over))
        return self._document(ask, "job", job)

    def _progress(self, ask: ApiRequest, *jobs: ApiRecord) -> dict[int, Progress]:
        """How far jobs are, by their numbers. What is over is asked once, and kept."""
        found = {
            job.id: Progress("planned") if job["over"] is None else msgspec.convert(job["over"], Progress)
            for job in jobs
        }
        open_ones = [job for job in jobs if job["over"] is None and job["run"] is not None]
        known = self._runner.progress(ask.caller, [job["run"] for job in open_ones]) if open_ones else {}
        for job in open_ones:
            found[job.id] = progress = known[job["run"]]
            if progress.status in OVER:
                self._records.update(ask.center, job, over=msgspec.to_builtins(progress))
        return found

    def _open_jobs(self, ask: ApiRequest) -> dict[int, Progress]:
        """Those that have been enqueued and were not over when somebody last looked."""
        begun = SqlCondition(
            "CAST(body AS TEXT) ->> 'over' IS NULL AND CAST(body AS TEXT) ->> 'run' IS NOT NULL"
        )
        return self._progress(ask, *self._records.page(ask.center, "job", [begun]))

    def _jobs_of(self, ask: ApiRequest, batch: ApiRecord) -> list[ApiRecord]:
        return self._records.inside(ask.center, "job", batch.id)

    def _jobs(self, ask: ApiRequest, jobs: Sequence[ApiRecord]) -> list[Document]:
        progress = self._progress(ask, *jobs)
        batches = {
            number: self._records.get(ask.center, "batch_job", number)
            for number in {job["batch_job_id"] for job in jobs}
        }
        found = []
        for job in jobs:
            batch = batches[job["batch_job_id"]]
            queued_at = None if batch is None else batch["queued_at"]
            found.append(bodies.job(job, progress[job.id], self._type(ask, job), queued_at))
        return found

    # --- what came of them ---------------------------------------------------------------------------

    def _results(self, ask: ApiRequest) -> Document:
        job = self._record(ask, "job", ask.id)
        if job["run"] is None:
            return cut(ask, 0).document([])
        which = cut(ask, *self._runner.results(ask.caller, job["run"]))
        most = min(which.size, which.total - which.first)  # not what came between the two questions
        found = self._runner.measured(ask.caller, job["run"], which.first, most) if most > 0 else []
        return which.document([bodies.result(one, job.id) for one in found])

    def _final_result(self, ask: ApiRequest) -> Document:
        job = self._record(ask, "job", ask.id)
        found = None if job["run"] is None else self._runner.final_result(ask.caller, job["run"])
        if found is None:
            raise UnknownRecordError(f"Job {job.id} has no final result.")
        ended = self._progress(ask, job)[job.id].finished_at
        when = bodies.moment(job.created if ended is None else ended)
        return {"id": job.id, "created_on": when, "job_id": job.id, "final_result": found}

    def _logs(self, ask: ApiRequest) -> Document:
        """What a job has written. Lines have no times here: they count on from the job's beginning."""
        job = self._record(ask, "job", ask.id)
        lines = [] if job["run"] is None else self._runner.log(ask.caller, job["run"])
        first = int(job.created * 1e9)
        start = max(0, ask.number("start", first, 2**62) - first)
        shown = lines[start : start + ask.number("limit", _LOG_PAGE, _LOG_PAGE)]
        logs = [{"timestamp": first + start + at, "line": line} for at, line in enumerate(shown)]
        return {"logs": logs, "next_start": first + start + len(logs) if logs else None}

    # --- helpers -------------------------------------------------------------------------------------

    def _record(self, ask: ApiRequest, kind: Kind, number: int) -> ApiRecord:
        found = self._records.get(ask.center, kind, number)
        if found is None:
            raise UnknownRecordError(f"Unknown {kind.replace('_', ' ')} {number}.")
        return found

    def _refuse_orphan(self, ask: ApiRequest, kind: Kind, fields: dict[str, Any]) -> None:
        if kind in PARENTS:
            parent, field = PARENTS[kind]
            self._record(ask, parent, fields[field])

    def _document(self, ask: ApiRequest, kind: Kind, kept: ApiRecord) -> Document:
        if kind == "project":
            return bodies.project(kept, ask.center)
        if kind == "commit":
            return bodies.commit(kept)
        if kind == "file":
            return bodies.file(kept, self._records.text(kept))
        if kind == "job":
            return self._jobs(ask, [kept])[0]
        if kind == "batch_job":
            jobs = self._jobs_of(ask, kept)
            return bodies.batch_job(kept, self._progress(ask, *jobs), ask.center, self._type(ask, *jobs[:1]))
        return bodies.record(kept)

    def _type(self, ask: ApiRequest, *jobs: ApiRecord) -> str:
        files = [self._records.get(ask.center, "file", job["file_id"]) for job in jobs]
        python = any(file is not None and file["language_id"] == bodies.PYTHON for file in files)
        return "hybrid" if python else "quantum"
