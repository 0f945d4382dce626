"""The job manager's REST API: a center's results, logs and changes, authenticated by its Slurm token.

    GET /v1/jobs              the center's jobs, newest first (?limit=)
    GET /v1/jobs/ID           one job
    GET /v1/jobs/ID/results   its result (409 until it has ended)
    GET /v1/jobs/ID/logs      its output as text (?offset=; X-Qslurm-Next-Offset is the next offset)
    GET /v1/results           results or errors of many jobs (?jobs=12,13), as many as fit into a response
    GET /v1/keys/KEY          all starts of one submission, newest first; an empty list if it has not started
    GET /v1/usage             the jobs' usage by origin, account and backend (?since=&until=, Unix seconds)
    GET /v1/sessions          the address and certificate of the session server
    GET /v1/changes, /v1/queue, /v1/places, /v1/loads    states and queue positions (changes_api.py)
    GET /v1/backends          the backends' states and reservations
    GET, POST /v1/token       whether the center's token can be renewed; renew it
    GET /healthz              whether this service works (no token needed)
    /quantum-inspire/…        Quantum Inspire's Compute API, if configured (a plug-in: compute_api/)

Another center's job is answered as one that does not exist. Errors are JSON: `{"error": {…}}`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from qslurm.c2.config.file import C2Config
from qslurm.c2.jobmanager.authentication import Keyring, verify
from qslurm.c2.jobmanager.center_limits import NO_CENTER, CenterLimits
from qslurm.c2.jobmanager.documents import (
    backend_document,
    error_document,
    job_document,
    refuse_unfinished,
    reserved,
    result_document,
)
from qslurm.c2.jobmanager.http import (
    answer_error,
    error_response,
    guarded,
    http_error,
    internal_error,
    job_id_of,
    job_ids_in,
    json_response,
    number_in,
    token_of,
    with_headers,
)
from qslurm.c2.jobmanager.logs import read_log
from qslurm.c2.jobmanager.renewal_endpoint import RenewalEndpoint
from qslurm.c2.jobmanager.shared_status import SharedStatus
from qslurm.c2.store.reader import Reader
from qslurm.c2.store.task_records import TaskRecord
from qslurm.errors import (
    InvalidInputError,
    NotReadyError,
    QslurmError,
    UnknownJobError,
)
from qslurm.protocol.tls_certificate import read_certificate
from qslurm.system.plugins import load_plugin

if TYPE_CHECKING:
    from qslurm.c2.jobmanager.changes_api import ChangesApi

APIS = "qslurm.jobmanager"
"""The entry point group of further APIs: functions that return routes."""

_BUILT_IN = {"quantum-inspire": "qslurm.c2.jobmanager.compute_api.entry_point:routes"}

KEY = re.compile(r"[A-Za-z0-9_.:/@+,-]{1,1024}(#\d{1,10})?")
"""A submission key, or that of one task of an array."""

LONGEST_LIST = 1000

MOST_RESULTS = 250
"""Maximum jobs in a request for results."""

MOST_BYTES = 8 * 1024 * 1024
"""Results in a response; the one that exceeds this is still included."""


def make_app(config: C2Config, changes: ChangesApi | None = None, *, most_bytes: int = MOST_BYTES) -> ASGIApp:
    """The ASGI application; `changes` has the endpoints for clients that follow jobs.

    `most_bytes` bounds the results in a response.
    """
    manager = _JobManager(config, most_bytes)
    limits = CenterLimits()

    def route(path: str, endpoint: Callable[[Request], Response], *fields: str, **options: Any) -> Route:
        authenticate = options.pop("authenticate", manager.center)
        answer = guarded(endpoint, limits, authenticate, frozenset(fields))
        return Route(path, answer, methods=options.get("methods", ["GET"]))

    routes: list[BaseRoute] = [
        route("/healthz", manager.health, authenticate=lambda _: NO_CENTER),
        route("/v1/backends", manager.backends),
        route("/v1/sessions", manager.sessions),
        route("/v1/usage", manager.usage, "since", "until"),
        route("/v1/token", manager.renewal, methods=["GET", "POST"]),
        route("/v1/keys/{key:path}", manager.key),
        route("/v1/results", manager.many_results, "jobs"),
        route("/v1/jobs", manager.jobs, "limit"),
        route("/v1/jobs/{job_id}", manager.job),
        route("/v1/jobs/{job_id}/results", manager.results),
        route("/v1/jobs/{job_id}/logs", manager.logs, "offset"),
    ]
    if changes is not None:
        routes += changes.routes(manager.center, limits)
    if config.jobmanager.compute:
        routes_of = load_plugin(APIS, "quantum-inspire", _BUILT_IN)
        routes.append(
            Mount("/quantum-inspire", routes=routes_of(config, manager.center, manager.status, limits))
        )

    # asynchronous, so that requests without a token take no threads
    async def refuse(request: Request, error: QslurmError) -> Response:
        return answer_error(request, error)

    async def nothing_here(request: Request, error: HTTPException) -> Response:
        del request
        return http_error(error)

    async def unexpected(request: Request, error: Exception) -> Response:
        del request, error
        return error_response(internal_error())

    handlers: dict[Any, Any] = {
        QslurmError: refuse,
        HTTPException: nothing_here,
        Exception: unexpected,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # a redirect would use the host name in the request
    return with_headers(app, limits)


class _JobManager:
    """The endpoints: functions that run in threads, a few at a time for each center."""

    def __init__(self, config: C2Config, most_bytes: int) -> None:
        self._config = config
        self._most_bytes = most_bytes
        self._keyring = Keyring(config.tokens.jwks, hs256_key=config.jobmanager.hs256_key)
        self._reader = Reader(config.dispatcher.store)
        self._renewal = RenewalEndpoint(config.tokens.socket)
        self.status = SharedStatus(config)

    def health(self, request: Request) -> Response:
        del request
        self._reader.tasks("", limit=1)
        self._keyring.key("")
        return json_response({"status": "ok"})

    def backends(self, request: Request) -> Response:
        center, status = request.state.center, self.status.get()
        return json_response(
            {
                "backends": [
                    backend_document(one) | {"reserved": reserved(status.reservations, one.name, center)}
                    for one in status.backends
                ]
            }
        )

    def renewal(self, request: Request) -> Response:
        center = request.state.center
        dry_run = request.method != "POST"
        return json_response(self._renewal.document(center, token_of(request), dry_run=dry_run))

    def sessions(self, request: Request) -> Response:
        del request
        sessions = self._config.sessions
        if not sessions.listen:
            return json_response({"address": "", "certificate": ""})
        certificate = read_certificate(Path(sessions.key))
        return json_response({"address": sessions.address or sessions.listen, "certificate": certificate})

    def usage(self, request: Request) -> Response:
        center = request.state.center
        since = number_in(request, "since", default=0, low=0, high=2**40)
        until = number_in(request, "until", default=2**40, low=0, high=2**40)
        return json_response({"usage": msgspec.to_builtins(self._reader.usage(center, since, until))})

    def jobs(self, request: Request) -> Response:
        center = request.state.center
        limit = number_in(request, "limit", default=100, low=1, high=LONGEST_LIST)
        return json_response({"jobs": [job_document(task) for task in self._reader.tasks(center, limit)]})

    def job(self, request: Request) -> Response:
        return json_response(job_document(self._task(request)))

    def key(self, request: Request) -> Response:
        center, key = request.state.center, request.path_params["key"]
        if not KEY.fullmatch(key):
            raise InvalidInputError(f"Invalid submission key {key[:40]!r}.")
        return json_response({"jobs": [job_document(task) for task in self._reader.starts(center, key)]})

    def results(self, request: Request) -> Response:
        return json_response(self._results(self._task(request)))

    def many_results(self, request: Request) -> Response:
        center, wanted = request.state.center, job_ids_in(request, "jobs", MOST_RESULTS)
        known = {task.job_id: task for task in self._reader.tasks_of(center, wanted)}
        found: list[dict[str, Any]] = []
        size = 0
        for job_id in wanted:
            try:
                document = self._results(known[job_id]) if job_id in known else _absent(job_id)
            except NotReadyError as error:
                document = {"job_id": job_id} | error_document(error)
            found.append(document)
            size += sum(len(value) for value in document.values() if isinstance(value, msgspec.Raw))
            if size > self._most_bytes:
                break
        return json_response({"results": found})

    def _results(self, task: TaskRecord) -> dict[str, Any]:
        refuse_unfinished(task)
        return result_document(task, self._reader)

    def logs(self, request: Request) -> Response:
        center, job_id = request.state.center, job_id_of(request)
        offset = number_in(request, "offset", default=0, low=0, high=2**62)
        user = self._config.slurm.user_prefix + center
        data, next_offset = read_log(self._config.jobmanager.logs, user, job_id, offset)
        headers = {"X-Qslurm-Next-Offset": str(next_offset)}
        return Response(data, media_type="text/plain", headers=headers)

    def _task(self, request: Request) -> TaskRecord:
        center, job_id = request.state.center, job_id_of(request)
        task = self._reader.task(center, job_id)
        if task is None:
            raise _unknown(job_id)
        return task

    def center(self, request: Request) -> str:
        """The center of the request's token; TokenError if invalid."""
        return verify(token_of(request), self._keyring, self._config.slurm.user_prefix, time.time())


def _unknown(job_id: int) -> UnknownJobError:
    return UnknownJobError(
        f"Job {job_id} has not started, or does not belong to your center.",
        hint="`qslurm queue` lists your center's jobs.",
    )


def _absent(job_id: int) -> dict[str, Any]:
    return {"job_id": job_id} | error_document(_unknown(job_id))
