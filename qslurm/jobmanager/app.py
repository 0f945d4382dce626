"""The job manager's REST API: a center gets its own jobs' results and logs, with the token it has for Slurm.

    GET /v1/jobs              the center's jobs, newest first (?limit=)
    GET /v1/jobs/ID           one job
    GET /v1/jobs/ID/results   what it measured or computed (409 while it is under way)
    GET /v1/jobs/ID/logs      what it wrote, as text (?offset=; X-Qslurm-Next-Offset says where to go on)
    GET /v1/keys/KEY          every start of one submission, newest first; an empty list if it never started
    GET /v1/usage             what its jobs have used, by origin, account and backend (?since=&until=, Unix seconds)
    GET /v1/sessions          where a session's client comes to, and the certificate by which that is known
    GET /v1/changes, /v1/queue, /v1/places, /v1/loads    how jobs wait and run, as it changes (following.py)
    GET /v1/backends          the backends and how they are, with the windows reserved for some
    GET, POST /v1/token       whether the center's token would be renewed, and a fresh one for it
    GET /healthz              whether this service works (no token needed)
    /quantum-inspire/…        Quantum Inspire's Compute API, if it is configured (compute/api.py)

Another center's job is answered exactly as one that does not exist. Errors are JSON: `{"error": {…}}`.
"""

from __future__ import annotations

import re
import threading
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
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qslurm.c2.config import C2Config
from qslurm.dispatcher.entrance.certificate import read_certificate
from qslurm.dispatcher.messages import GetStatus, Status
from qslurm.errors import (
    InvalidInputError,
    NotReadyError,
    PermissionDeniedError,
    QslurmError,
    TokenError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.eventlog import EventLog
from qslurm.jobmanager.auth import Keyring, verify
from qslurm.jobmanager.documents import (
    backend_document,
    error_document,
    job_document,
    refuse_unfinished,
    reserved,
    result_document,
)
from qslurm.jobmanager.logs import read_log
from qslurm.jobmanager.renewal import Renewing
from qslurm.logfmt import Field
from qslurm.store.reader import Reader
from qslurm.store.records import TaskRecord
from qslurm.tokens.door import TooOftenError

if TYPE_CHECKING:
    from qslurm.jobmanager.following import Following

STATUS_OF: list[tuple[type[QslurmError], int]] = [
    (TokenError, 401),
    (PermissionDeniedError, 403),
    (UnknownJobError, 404),
    (NotReadyError, 409),
    (InvalidInputError, 400),
    (TooOftenError, 429),
    (UnreachableError, 503),
]
"""HTTP statuses by error, the first that fits; all else is 500."""

log = EventLog(__name__)

KEY = re.compile(r"[A-Za-z0-9_.:/@+,-]{1,1024}")
"""The key of a submission, as its comment may have it."""

LONGEST_LIST = 1000
STATUS_AGE_S = 1.0
"""Seconds for which one answer of the dispatcher serves all centers."""

STATUS_LIMIT_S = 2.0
"""Seconds that the dispatcher may take to answer."""

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'"),
]


def make_app(config: C2Config, following: Following | None = None) -> ASGIApp:
    """The application, ready to serve; `following` has the endpoints for who follows jobs."""
    manager = _JobManager(config)
    routes: list[BaseRoute] = [
        Route("/healthz", _guarded(manager.health), methods=["GET"]),
        Route("/v1/backends", _guarded(manager.backends), methods=["GET"]),
        Route("/v1/sessions", _guarded(manager.sessions), methods=["GET"]),
        Route("/v1/usage", _guarded(manager.usage), methods=["GET"]),
        Route("/v1/token", _guarded(manager.renewal), methods=["GET", "POST"]),
        Route("/v1/keys/{key:path}", _guarded(manager.key), methods=["GET"]),
        Route("/v1/jobs", _guarded(manager.jobs), methods=["GET"]),
        Route("/v1/jobs/{job_id}", _guarded(manager.job), methods=["GET"]),
        Route("/v1/jobs/{job_id}/results", _guarded(manager.results), methods=["GET"]),
        Route("/v1/jobs/{job_id}/logs", _guarded(manager.logs), methods=["GET"]),
    ]
    if following is not None:
        routes += following.routes(manager.center)
    if config.jobmanager.compute:
        routes.append(Mount("/quantum-inspire", routes=manager.compute_routes()))
    handlers: dict[Any, Callable[[Request, Any], Response]] = {
        QslurmError: _answer_error,
        HTTPException: lambda _, error: _http_error(error),
        Exception: lambda _, error: error_response(_bug(error)),
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # a redirect would name whatever host the request named
    return _with_headers(app)


class _JobManager:
    """The endpoints. They are plain functions: Starlette runs them in threads, one request each."""

    def __init__(self, config: C2Config) -> None:
        self._config = config
        self._keyring = Keyring(config.tokens.jwks, hs256_key=config.jobmanager.hs256_key)
        self._reader = Reader(config.dispatcher.store)
        self._renewing = Renewing(config.tokens.socket)
        self._status = _SharedStatus(config)

    def compute_routes(self) -> list[Route]:
        """The Compute API's paths, for clients that were made for Quantum Inspire."""
        from qslurm.jobmanager.compute.api import ComputeApi
        from qslurm.jobmanager.compute.records import Records
        from qslurm.jobmanager.compute.runner import Caller
        from qslurm.jobmanager.compute.slurm_runner import SlurmRunner

        def authenticate(request: Request) -> Caller:
            return Caller(self.center(request), _token(request))

        runner = SlurmRunner(self._config, lambda: self._status.get().backends)
        return ComputeApi(Records(self._config.jobmanager.compute), runner, authenticate).routes()

    def health(self, request: Request) -> Response:
        del request
        self._reader.tasks("", limit=1)
        self._keyring.key("")
        return _json({"status": "ok"})

    def backends(self, request: Request) -> Response:
        center, status = self.center(request), self._status.get()
        return _json(
            {
                "backends": [
                    backend_document(one) | {"reserved": reserved(status.reservations, one.name, center)}
                    for one in status.backends
                ]
            }
        )

    def renewal(self, request: Request) -> Response:
        center = self.center(request)
        only_look = request.method != "POST"
        return _json(self._renewing.document(center, _token(request), only_look=only_look))

    def sessions(self, request: Request) -> Response:
        self.center(request)
        sessions = self._config.sessions
        if not sessions.listen:
            return _json({"address": "", "certificate": ""})
        certificate = read_certificate(Path(sessions.key))
        return _json({"address": sessions.address or sessions.listen, "certificate": certificate})

    def usage(self, request: Request) -> Response:
        center = self.center(request)
        since = _number(request, "since", default=0, low=0, high=2**40)
        until = _number(request, "until", default=2**40, low=0, high=2**40)
        return _json({"usage": msgspec.to_builtins(self._reader.usage(center, since, until))})

    def jobs(self, request: Request) -> Response:
        center = self.center(request)
        limit = _number(request, "limit", default=100, low=1, high=LONGEST_LIST)
        return _json({"jobs": [job_document(task) for task in self._reader.tasks(center, limit)]})

    def job(self, request: Request) -> Response:
        return _json(job_document(self._task(request)))

    def key(self, request: Request) -> Response:
        center, key = self.center(request), request.path_params["key"]
        if not KEY.fullmatch(key):
            raise InvalidInputError(f"{key[:40]!r} is no key of a submission.")
        return _json({"jobs": [job_document(task) for task in self._reader.starts(center, key)]})

    def results(self, request: Request) -> Response:
        task = self._task(request)
        refuse_unfinished(task)
        executions = self._reader.executions(task) if task.kind == "circuit" else []
        return _json(result_document(task, executions))

    def logs(self, request: Request) -> Response:
        center, job_id = self.center(request), _job_id(request)
        offset = _number(request, "offset", default=0, low=0, high=2**62)
        user = self._config.slurm.user_prefix + center
        data, next_offset = read_log(self._config.jobmanager.logs, user, job_id, offset)
        headers = {"X-Qslurm-Next-Offset": str(next_offset)}
        return Response(data, media_type="text/plain", headers=headers)

    def _task(self, request: Request) -> TaskRecord:
        center, job_id = self.center(request), _job_id(request)
        task = self._reader.task(center, job_id)
        if task is None:
            raise UnknownJobError(
                f"There is no job {job_id} of your center that has started.",
                hint="`qslurm queue` shows your center's jobs.",
            )
        return task

    def center(self, request: Request) -> str:
        """Whose token it is; TokenError for nobody's."""
        center = verify(_token(request), self._keyring, self._config.slurm.user_prefix, time.time())
        request.state.center = center
        return center


class _SharedStatus:
    """The dispatcher's status, asked at most once a second."""

    def __init__(self, config: C2Config) -> None:
        self._socket = config.dispatcher.socket
        self._lock = threading.Lock()
        self._status: Status | UnreachableError | None = None
        self._asked = float("-inf")

    def get(self) -> Status:
        """The status; UnreachableError if the dispatcher is silent."""
        with self._lock:
            if self._status is None or time.monotonic() - self._asked > STATUS_AGE_S:
                # A silence is remembered, too: who waits for it one after the other keeps threads from all others.
                self._status = self._ask()
                self._asked = time.monotonic()
            if isinstance(self._status, UnreachableError):
                raise UnreachableError(self._status.message, hint=self._status.hint)
            return self._status

    def _ask(self) -> Status | UnreachableError:
        from qslurm.dispatcher.client import DispatcherClient

        try:
            with DispatcherClient(self._socket, timeout_s=STATUS_LIMIT_S) as client:
                answer = client.ask(GetStatus())
        except UnreachableError as error:
            return error
        if not isinstance(answer, Status):
            return UnreachableError("The dispatcher does not say how it is.")
        return answer


def _guarded(endpoint: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """What nobody expected is logged with the job it is about; a center is not told how we look inside."""

    def answer(request: Request) -> Response:
        try:
            return endpoint(request)
        except (QslurmError, HTTPException):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it has to be said, and answered
            log.crashed("request failed", error, **_about(request))
            return error_response(_bug(error))

    return answer


def _answer_error(request: Request, error: QslurmError) -> Response:
    answer = error_response(error)
    if answer.status_code >= 500:
        log.warning("request failed", **_about(request), status=answer.status_code, why=error.message)
    return answer


def _about(request: Request) -> dict[str, Field]:
    center = getattr(request.state, "center", None)
    return {"job": request.path_params.get("job_id"), "center": center, "path": request.url.path}


def error_response(error: QslurmError) -> Response:
    """An error as JSON, with its HTTP status."""
    status = next((code for kind, code in STATUS_OF if isinstance(error, kind)), 500)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return _json(error_document(error), status=status, headers=headers)


def _http_error(error: HTTPException) -> Response:
    words = {404: "There is nothing here.", 405: "This can only be read: use GET."}
    problem = InvalidInputError(
        words.get(error.status_code, error.detail),
        hint="See the job manager's paths: /v1/jobs, /v1/backends.",
    )
    headers = dict(error.headers) if error.headers else None
    return _json(error_document(problem), status=error.status_code, headers=headers)


def _bug(error: Exception) -> QslurmError:
    del error  # the traceback goes to the log; a center is not told how we look inside
    return QslurmError("The job manager failed.", hint="C2's operators find the reason in its log.")


def _json(document: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        msgspec.json.encode(document), status_code=status, headers=headers, media_type="application/json"
    )


def _token(request: Request) -> str:
    header: str = request.headers.get("authorization", "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    slurm_token: str = request.headers.get("x-slurm-user-token", "")
    if not slurm_token.strip():
        raise TokenError(
            "This needs your center's token.",
            hint="Send it as `Authorization: Bearer …` or X-SLURM-USER-TOKEN.",
        )
    return slurm_token.strip()


def _job_id(request: Request) -> int:
    text: str = request.path_params["job_id"]
    if not (text.isascii() and text.isdigit() and int(text[:12]) > 0 and len(text) <= 10):
        raise InvalidInputError(f"{text[:40]!r} is not a job id.", hint="A job id is a number, such as 4711.")
    return int(text)


def _number(request: Request, name: str, *, default: int, low: int, high: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise InvalidInputError(f"{name} must be a number from {low} to {high}.")
    return int(text)


def _with_headers(app: ASGIApp) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        await app(scope, receive, send_with_headers)

    return wrapped
