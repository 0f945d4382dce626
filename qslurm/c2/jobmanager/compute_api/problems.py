"""The Compute API's errors: `{"detail": …}`, with the statuses that its client expects."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from qslurm.c2.jobmanager.http import RequestTimeoutError, json_response
from qslurm.errors import (
    DuplicateError,
    InvalidInputError,
    PermissionDeniedError,
    QslurmError,
    RefusedError,
    TokenError,
    UnknownJobError,
    UnreachableError,
)


class UnknownRecordError(QslurmError):
    """The record does not exist, or belongs to another center."""

    kind = "unknown"


class InvalidRequestError(InvalidInputError):
    """The request is invalid."""


STATUS_OF: list[tuple[type[QslurmError], int]] = [
    (TokenError, 401),
    (PermissionDeniedError, 403),
    (UnknownRecordError, 404),
    (UnknownJobError, 404),
    (DuplicateError, 409),
    (RefusedError, 409),
    (RequestTimeoutError, 408),
    (InvalidInputError, 422),
    (UnreachableError, 503),
]
"""HTTP statuses by error, the first match; others are 500."""


def error_response(error: QslurmError) -> Response:
    """The response to an error; for 422 the detail is a list, as the client expects."""
    status = next((code for kind, code in STATUS_OF if isinstance(error, kind)), 500)
    detail: Any = str(error) if status != 500 else "Internal error in the job manager."
    if status == 422:
        detail = [{"loc": ["body"], "msg": detail, "type": "value_error"}]
    response = respond({"detail": detail}, status)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def respond(document: object, status: int) -> Response:
    """A response with a document; without a body for None."""
    if document is None:
        return Response(status_code=status)
    return json_response(document, status=status)
