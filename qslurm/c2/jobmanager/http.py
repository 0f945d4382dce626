"""Reads HTTP requests, and makes responses and errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qslurm.c2.jobmanager.documents import error_document
from qslurm.errors import (
    InvalidInputError,
    NotReadyError,
    PermissionDeniedError,
    QslurmError,
    TokenError,
    TooOftenError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.system.event_log import EventLog
from qslurm.system.logfmt import Field

if TYPE_CHECKING:
    from qslurm.c2.jobmanager.center_limits import CenterLimits

log = EventLog(__name__, per_minute=60)

BODY_S = 30.0
"""Time limit for a request's body to arrive."""

CHUNK = 256 * 1024
"""Bytes of a response that are written at a time; the next chunk waits until these are sent."""


class RequestTimeoutError(InvalidInputError):
    """A request did not arrive in time."""


STATUS_OF: list[tuple[type[QslurmError], int]] = [
    (TokenError, 401),
    (PermissionDeniedError, 403),
    (UnknownJobError, 404),
    (NotReadyError, 409),
    (RequestTimeoutError, 408),
    (InvalidInputError, 400),
    (TooOftenError, 429),
    (UnreachableError, 503),
]
"""HTTP statuses by error, the first match; others are 500."""

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'"),
]


def guarded(
    endpoint: Callable[[Request], Response],
    limits: CenterLimits,
    authenticate: Callable[[Request], str],
    fields: frozenset[str] = frozenset(),
) -> Callable[[Request], Awaitable[Response]]:
    """Run an endpoint in a thread, for an authenticated center (request.state.center).

    `fields` are the permitted query fields. Unexpected errors are logged, and hidden from centers.
    """

    async def answer(request: Request) -> Response:
        center = authenticate(request)
        limits.begin(request, center)
        request.state.center = center
        refuse_other_fields(request, fields)
        await limits.turn(request)
        return await limits.work(center, lambda: work(request))

    def work(request: Request) -> Response:
        try:
            return endpoint(request)
        except (QslurmError, HTTPException):
            raise
        except Exception as error:  # noqa: BLE001 - any bug is logged and answered
            log.crashed("request failed", error, **_about(request))
            return error_response(internal_error())

    return answer


def refuse_other_fields(request: Request, known: frozenset[str]) -> None:
    """InvalidInputError for an unknown query field, which would be ignored otherwise."""
    for name in request.query_params:
        if name not in known:
            raise InvalidInputError(f"Unknown query field {name[:40]!r}.")


async def body_of(request: Request, most: int) -> bytes:
    """A request's body of at most `most` bytes; RequestTimeoutError if it does not arrive within BODY_S."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for piece in request.stream():
                body += piece
                if len(body) > most:
                    raise InvalidInputError(f"Request too large: the limit is {most >> 20} MiB.")
    except ClientDisconnect as error:
        raise RequestTimeoutError(
            "The client closed the connection before the request was complete."
        ) from error
    except TimeoutError as error:
        raise RequestTimeoutError(f"The request did not arrive within {BODY_S:g} s.") from error
    return bytes(body)


def answer_error(request: Request, error: QslurmError) -> Response:
    """The response to an error, which is logged if it is a 5xx."""
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
    return json_response(error_document(error), status=status, headers=headers)


def http_error(error: HTTPException) -> Response:
    """Starlette's error as JSON."""
    words = {404: "Not found.", 405: "Method not allowed. Use GET."}
    problem = InvalidInputError(
        words.get(error.status_code, error.detail),
        hint="The job manager's paths start at /v1/jobs and /v1/backends.",
    )
    headers = dict(error.headers) if error.headers else None
    return json_response(error_document(problem), status=error.status_code, headers=headers)


def internal_error() -> QslurmError:
    """The error for a center instead of an unexpected one, whose traceback is in the log."""
    return QslurmError("Internal error in the job manager.", hint="C2's operators find the cause in its log.")


class ChunkedResponse(Response):
    """A response of any size, written in chunks so that a slow client does not fill buffers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        del scope, receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = memoryview(self.body)
        for start in range(0, len(body), CHUNK):
            chunk = bytes(body[start : start + CHUNK])
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def json_response(document: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response."""
    return ChunkedResponse(
        msgspec.json.encode(document), status_code=status, headers=headers, media_type="application/json"
    )


def token_of(request: Request) -> str:
    """A request's token; TokenError if there is none."""
    header: str = request.headers.get("authorization", "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    slurm_token: str = request.headers.get("x-slurm-user-token", "")
    if not slurm_token.strip():
        raise TokenError(
            "No token given.",
            hint="Send your center's token as `Authorization: Bearer …` or X-SLURM-USER-TOKEN.",
        )
    return slurm_token.strip()


def job_id_of(request: Request) -> int:
    """The job id in a request's path; InvalidInputError if invalid."""
    return _job_id(request.path_params["job_id"])


def job_ids_in(request: Request, name: str, most: int) -> list[int]:
    """The job ids in a query field (`12,13`), without duplicates; InvalidInputError if invalid, none or too many."""
    text = request.query_params.get(name, "")
    ids = text.split(",", most) if text else []
    if not 1 <= len(ids) <= most:
        raise InvalidInputError(f"{name} must be 1 to {most} job ids, separated by commas.")
    return list(dict.fromkeys(map(_job_id, ids)))


def _job_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:12]) > 0 and len(text) <= 10):
        raise InvalidInputError(f"Invalid job id {text[:40]!r}.", hint="Use a number, for example 4711.")
    return int(text)


def number_in(request: Request, name: str, *, default: int, low: int, high: int) -> int:
    """A number in a query field; InvalidInputError if invalid or out of bounds."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise InvalidInputError(f"{name} must be a number from {low} to {high}.")
    return int(text)


def with_headers(app: ASGIApp, limits: CenterLimits) -> ASGIApp:
    """Add the common headers to all responses, and report to `limits` when a request has been answered."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        try:
            await app(scope, receive, send_with_headers)
        finally:
            limits.end(scope)

    return wrapped
