"""A client of C2's job manager: states, results, logs, backends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from qslurm.errors import (
    InvalidInputError,
    NotReadyError,
    QslurmError,
    RefusedError,
    TokenError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.protocol.nesting import TOO_DEEP, is_too_deep

if TYPE_CHECKING:
    from qslurm.c1.connection.client_protocols import JobManagerApi
    from qslurm.protocol.job_changes import ChangesPage, PartitionLoad, QueueListing
    from qslurm.slurm.rest.endpoint import Endpoint

T = TypeVar("T")

LIMITS_S = 2.0
"""Time-out in seconds of reading the backends' limits before a submission."""

NEXT_OFFSET = "X-Qslurm-Next-Offset"

_ERRORS: dict[int, type[QslurmError]] = {
    401: TokenError,
    403: TokenError,
    404: UnknownJobError,
    409: NotReadyError,
}


@dataclass(frozen=True)
class HttpResponse:
    """A complete HTTP response."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class JobManagerClient:
    """A center's connection to the job manager, authenticated by the center's Slurm token."""

    def __init__(self, endpoint: Endpoint) -> None:
        from qslurm.slurm.rest.http_session import open_session
        from qslurm.slurm.rest.transport import Http, Https, check_url

        self._url = check_url(endpoint.url)
        self._token = endpoint.token
        self._timeout_s = endpoint.timeout_s
        self._session = open_session(endpoint, Http, Https)

    def close(self) -> None:
        """Close the connection; the next request reconnects."""
        self._session.close()

    def job(self, job_id: int) -> dict[str, Any]:
        """The platform's record of a job: state, reason, times, executions; UnknownJobError before its start."""
        return self._json(f"/v1/jobs/{job_id}")

    def results(self, job_id: int) -> dict[str, Any]:
        """Counts of a circuit job, final result of a hybrid job; NotReadyError while it runs."""
        found = self._json(f"/v1/jobs/{job_id}/results")
        if is_too_deep(found.get("final_result")):
            raise _too_deep(f"The final result of job {job_id}")
        return found

    def many_results(self, job_ids: Sequence[int]) -> list[dict[str, Any]]:
        """The results, or the `error`, of each of these jobs; at least of the first ones, as far as they fit.

        At most 250 ids. UnknownJobError from an older job manager, without this request.
        """
        found = self._list("results", "/v1/results", {"jobs": ",".join(map(str, job_ids))})
        if not all(isinstance(one.get("job_id"), int) for one in found):
            raise _not_a_job_manager(self._url)
        return [_readable(one) for one in found]

    def starts(self, key: str) -> list[dict[str, Any]]:
        """Every start of the submission with this key that the platform knows, newest first."""
        from urllib.parse import quote

        return self._list("jobs", f"/v1/keys/{quote(key, safe='')}")

    def backends(self) -> list[dict[str, Any]]:
        """The platform's backends and their states."""
        return self._list("backends", "/v1/backends")

    def limits(self) -> list[dict[str, Any]]:
        """Like `backends`, with a short time-out."""
        return self._list("backends", "/v1/backends", within_s=LIMITS_S)

    def sessions(self) -> dict[str, Any]:
        """The session server's `address` ("" if none) and `certificate`."""
        return self._json("/v1/sessions")

    def jobs(self, limit: int = 1000) -> list[dict[str, Any]]:
        """The center's jobs that have started, newest first."""
        return self._list("jobs", "/v1/jobs", {"limit": str(limit)})

    def usage(self, since: int, until: int) -> list[dict[str, Any]]:
        """The center's usage in a period (Unix seconds), by origin, account and backend."""
        return self._list("usage", "/v1/usage", {"since": str(since), "until": str(until)})

    def changes(self, since: str, wait_s: int) -> ChangesPage:
        """Changes of the center's jobs since an answer; waits for changes at most `wait_s`.

        UnreachableError while the job manager has no view of the queue; UnknownJobError from an older one.
        """
        from qslurm.protocol.job_changes import ChangesPage

        return self._packed("/v1/changes", ChangesPage, {"since": since, "wait": str(wait_s)}, wait_s)

    def queue(self) -> QueueListing:
        """All of the center's jobs, with their queue positions; errors as for `changes`."""
        from qslurm.protocol.job_changes import QueueListing

        return self._packed("/v1/queue", QueueListing)

    def places(self) -> list[tuple[int, int]]:
        """The queue positions of the center's jobs; errors as for `changes`."""
        from qslurm.protocol.job_changes import QueueListing

        return self._packed("/v1/places", QueueListing).places

    def loads(self) -> list[PartitionLoad]:
        """Numbers of pending and running jobs of all centers, by partition; errors as for `changes`."""
        from qslurm.protocol.job_changes import PartitionLoad

        return self._packed("/v1/loads", list[PartitionLoad])

    def log_from(self, job_id: int, offset: int) -> tuple[bytes, int]:
        """A piece of a job's output from an offset, and the offset after it."""
        response = self._get(f"/v1/jobs/{job_id}/logs", {"offset": str(offset)})
        return response.body, _next_offset(response, offset)

    def _packed(
        self, path: str, type_: type[T], parameters: dict[str, str] | None = None, wait_s: int = 0
    ) -> T:
        import msgspec

        response = self._send("GET", path, parameters or {}, accept="application/msgpack", wait_s=wait_s)
        try:
            return msgspec.msgpack.decode(response.body, type=type_)
        except msgspec.DecodeError as error:
            raise _not_a_job_manager(self._url) from error

    def _list(
        self,
        name: str,
        path: str,
        parameters: dict[str, str] | None = None,
        *,
        within_s: float | None = None,
    ) -> list[dict[str, Any]]:
        """A list in the response; UnreachableError if it is missing, which does not mean that it is empty."""
        found = self._document(self._send("GET", path, parameters or {}, within_s=within_s)).get(name)
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise _not_a_job_manager(self._url)
        return found

    def _json(self, path: str, parameters: dict[str, str] | None = None) -> dict[str, Any]:
        return self._document(self._get(path, parameters or {}))

    def _document(self, response: HttpResponse) -> dict[str, Any]:
        try:
            document = json.loads(response.body)
        except ValueError as error:
            raise _not_a_job_manager(self._url) from error
        except RecursionError as error:
            raise _too_deep("C2's answer") from error
        if not isinstance(document, dict):
            raise _not_a_job_manager(self._url)
        return document

    def renewal(self, *, only_look: bool) -> dict[str, Any]:
        """A new token, or with `only_look` the terms of renewals; TokenError if C2 does not allow them."""
        return self._document(self._send("GET" if only_look else "POST", "/v1/token", {}))

    def clock(self) -> float:
        """C2's time in Unix seconds, to the second, from the response's Date header; sends no token."""
        from email.utils import parsedate_to_datetime

        date = self._send("GET", "/healthz", {}, token=False).headers.get("Date", "")
        try:
            return parsedate_to_datetime(date).timestamp()
        except (ValueError, OverflowError, OSError) as error:
            raise _not_a_job_manager(self._url) from error

    def _get(self, path: str, parameters: dict[str, str]) -> HttpResponse:
        return self._send("GET", path, parameters)

    def _send(
        self,
        method: str,
        path: str,
        parameters: dict[str, str],
        *,
        token: bool = True,
        accept: str = "*/*",
        wait_s: int = 0,
        within_s: float | None = None,
    ) -> HttpResponse:
        import requests
        from urllib3.exceptions import HTTPError

        from qslurm.slurm.rest.transport import read_whole

        timeout_s = within_s or self._timeout_s + wait_s
        until = time.monotonic() + 2 * timeout_s
        try:
            response = self._session.request(
                method,
                self._url + path,
                params=parameters,
                headers={"Accept": accept}
                | ({"Authorization": f"Bearer {self._token.reveal()}"} if token else {}),
                timeout=timeout_s,
                allow_redirects=False,
                stream=True,
            )
            with response:
                body = read_whole(response, until, f"C2's job manager at {self._url}")
        except (requests.RequestException, HTTPError, ValueError, OSError) as error:
            raise self._no_answer(error, timeout_s) from error
        received = HttpResponse(response.status_code, body, response.headers)
        if received.status != requests.codes.ok:
            raise _error(received, self._url)
        return received

    def _no_answer(self, error: Exception, timeout_s: float) -> UnreachableError:
        from qslurm.slurm.rest.http_session import distrust
        from qslurm.slurm.rest.transport import by_proxy, causes_of, never_sent, what_happened, why

        if (distrusted := distrust(self._url, causes_of(error))) is not None:
            return distrusted
        what = what_happened(error, timeout_s)
        if never_sent(error):
            what = f"is unreachable{by_proxy(error)}: {why(error)}"
        return UnreachableError(
            f"C2's job manager at {self._url} {what}.",
            hint="Results are kept there. Try again later, or check results_url.",
        )


def log_pieces(platform: JobManagerApi, job_id: int) -> Iterator[bytes]:
    """Read a job's output so far, in pieces."""
    offset = 0
    while True:
        piece, after = platform.log_from(job_id, offset)
        if after <= offset:
            return
        yield piece
        offset = after


def _next_offset(response: HttpResponse, offset: int) -> int:
    try:
        return int(response.headers[NEXT_OFFSET])
    except (KeyError, ValueError):
        return offset + len(response.body)


def _readable(document: dict[str, Any]) -> dict[str, Any]:
    """A job's results, or an error if they are nested too deeply."""
    if not is_too_deep(document.get("final_result")):
        return document
    error = _too_deep("The final result")
    return {"job_id": document["job_id"], "error": {"type": error.kind, "message": error.message}}


def _too_deep(what: str) -> InvalidInputError:
    return InvalidInputError(f"{what} is {TOO_DEEP} to be read.", hint="Return a flatter dict from finalize.")


def _not_a_job_manager(url: str) -> UnreachableError:
    return UnreachableError(
        f"{url} is not a qslurm job manager.", hint="Check results_url (QSLURM_RESULTS_URL)."
    )


def _error(response: HttpResponse, url: str) -> QslurmError:
    error_class = _ERRORS.get(response.status)
    try:
        described = json.loads(response.body)["error"]
        message, hint = str(described["message"]), str(described.get("hint", ""))
    except (ValueError, KeyError, TypeError, RecursionError):
        return _undescribed(response.status, url)
    if error_class is None:
        error_class = UnreachableError if response.status >= 500 else RefusedError
    return error_class(message, hint=hint)


def _undescribed(status: int, url: str) -> QslurmError:
    """The error for a response without a description: it is a proxy's, or the job manager fails."""
    if status == 401:
        return TokenError("C2 refused the token.", hint="Check it with `qslurm token check`.")
    if status == 403:
        return TokenError(
            f"A proxy in front of C2's job manager at {url} refused the request (HTTP 403).",
            hint="Ask your center's admins, or C2's operators.",
        )
    if status >= 500:
        return UnreachableError(
            f"C2's job manager at {url} is down or failing (HTTP {status}).",
            hint="Results are kept there. Try again later.",
        )
    return _not_a_job_manager(url)
