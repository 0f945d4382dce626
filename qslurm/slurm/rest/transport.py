"""One kept HTTP connection to slurmrestd. Imports requests, so import this module where it is needed.

What this module takes care of: a time-out on every wait, answers of bounded size, no redirect followed,
nothing taken from the environment (proxies, .netrc), a token in no text, and the difference between "never
sent" and "sent, and no answer".
"""

from __future__ import annotations

import io
import socket
import time
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

import requests
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.exceptions import NewConnectionError
from urllib3.util import parse_url

from qslurm.errors import ConfigError, UncertainError, UnreachableError
from qslurm.slurm.rest.endpoint import Endpoint
from qslurm.slurm.rest.http_session import distrust, open_session
from qslurm.tokens.secret import Secret

MAX_ANSWER = 256 * 1024 * 1024
"""Bytes of an answer that are read; a listing of 5,000 jobs has 32 MB (measured with 23.02)."""

_CHUNK = 64 * 1024
_CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    content_type: str
    body: bytes


class _InTime(io.RawIOBase):
    """What a server answers, until a moment: it may not keep its client by a byte now and then."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._connection, self.until = connection, until
        self._patience_s = connection.gettimeout()
        self._stream = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what has come; TimeoutError when the time is over."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._connection.settimeout(left if self._patience_s is None else min(left, self._patience_s))
        try:
            return self._stream.readinto(buffer)
        finally:
            self._connection.settimeout(self._patience_s)

    def close(self) -> None:
        """Let go of the connection."""
        self._stream.close()
        super().close()


class _Response(HTTPResponse):
    """Begins within the connection's time-out, as a whole, and is complete within twice that."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._patience_s = sock.gettimeout()
        if self._patience_s is not None:
            self.fp.close()
            self._bytes = _InTime(sock, time.monotonic() + self._patience_s)
            self.fp = io.BufferedReader(self._bytes)

    def begin(self) -> None:
        """Read the headers."""
        super().begin()
        if self._patience_s is not None:
            self._bytes.until += self._patience_s


class _AckAtOnce:
    """Asks the kernel not to hold back the ACK of the answer.

    slurmrestd writes headers and body apart, with Nagle's algorithm on, so on a kept connection its second
    write waits for the ACK of the first, which Linux delays by up to 40 ms: 43 submissions a second instead
    of hundreds (measured with 23.02). The kernel forgets the option, so it is set for each answer.
    """

    sock: socket.socket | None

    def getresponse(self) -> Any:
        if self.sock is not None and hasattr(socket, "TCP_QUICKACK"):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return super().getresponse()  # type: ignore[misc]


class Http(_AckAtOnce, HTTPConnection):
    """A connection whose answers begin in time, and end."""

    response_class = _Response


class Https(_AckAtOnce, HTTPSConnection):
    """The same by TLS."""

    response_class = _Response


class _TokenAuth(requests.auth.AuthBase):
    """Adds slurmrestd's two headers when a request leaves, so that no object shown on the way has them."""

    def __init__(self, user: str, token: Secret) -> None:
        self._user, self._token = user, token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._user:
            request.headers["X-SLURM-USER-NAME"] = self._user
        request.headers["X-SLURM-USER-TOKEN"] = self._token.reveal()
        return request


class Transport:
    """Sends requests to one slurmrestd. Thread-confined, because a requests.Session is."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._url = check_url(endpoint.url)
        self._timeout_s = endpoint.timeout_s
        self._session = open_session(endpoint, Http, Https)
        self._session.auth = _TokenAuth(endpoint.user, endpoint.token)
        self._session.headers["Accept"] = "application/json"

    def close(self) -> None:
        """Close the kept connection."""
        self._session.close()

    def send(self, method: str, path: str, body: bytes | None = None, *, submitting: bool = False) -> Answer:
        """Send one request, once. UnreachableError when no answer came, UncertainError for a submission's.

        The answer must begin within `timeout_s` and be complete within twice that.
        """
        until = time.monotonic() + 2 * self._timeout_s
        try:
            response = self._session.request(
                method,
                self._url + path,
                data=body,
                headers={"Content-Type": "application/json"} if body is not None else None,
                timeout=(min(_CONNECT_TIMEOUT_S, self._timeout_s), self._timeout_s),
                allow_redirects=False,
                stream=True,
            )
            with response:
                return Answer(
                    response.status_code,
                    response.headers.get("Content-Type", ""),
                    read_whole(response, until, f"C2's slurmrestd at {self._url}"),
                )
        except (requests.RequestException, Urllib3Error, OSError) as error:
            raise self._no_answer(error, submitting) from error
        except UnreachableError as error:
            raise (_uncertain(str(error)) if submitting else error) from None

    def _no_answer(self, error: Exception, submitting: bool) -> UnreachableError:
        if (distrusted := distrust(self._url, causes_of(error))) is not None:
            return distrusted
        if never_sent(error):
            return UnreachableError(
                f"C2's slurmrestd at {self._url} can't be reached{by_proxy(error)}: {why(error)}.",
                hint="Check the URL, and that this machine may connect to C2.",
            )
        what = what_happened(error, self._timeout_s)
        if submitting:
            return _uncertain(f"C2's slurmrestd at {self._url} {what}.")
        return UnreachableError(f"C2's slurmrestd at {self._url} {what}.", hint="Try again later.")


def read_whole(response: requests.Response, until: float, who: str) -> bytes:
    """The body of an answer as it arrives; UnreachableError if there is no end to it, or not until a moment."""
    read = getattr(response.raw, "read1", response.raw.read)
    pieces: list[bytes] = []
    size = 0
    while piece := read(_CHUNK):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER:
            raise UnreachableError(
                f"{who} answered with more than {MAX_ANSWER // 2**20} MiB.", hint="Is its URL the right one?"
            )
        if time.monotonic() > until:
            raise UnreachableError(
                f"{who} answers too slowly: only half an answer came in time.",
                hint="Try again later, or with a longer timeout_s.",
            )
    return b"".join(pieces)


def what_happened(error: BaseException, timeout_s: float) -> str:
    """What became of a request that may have been heard, in words: it gave no answer in time, or broke off."""
    slow = isinstance(error, requests.exceptions.Timeout) or isinstance(_innermost(error), TimeoutError)
    return f"gave no answer within {timeout_s:g} s" if slow else "broke the connection off"


def by_proxy(error: BaseException) -> str:
    """That it was the proxy which could not be reached, if so."""
    return " through the proxy" if isinstance(error, requests.exceptions.ProxyError) else ""


def check_url(url: str) -> str:
    """The URL without its last slash; ConfigError for one that is no http(s) URL or carries a password."""
    try:
        parts = parse_url(url)
    except Urllib3Error as error:
        raise ConfigError(
            f"The URL of C2 is none: {url!r}.", hint="It looks like https://host:6820."
        ) from error
    if parts.scheme not in ("http", "https") or not parts.host or parts.query or parts.fragment:
        raise ConfigError(f"The URL of C2 is none: {url!r}.", hint="It looks like https://host:6820.")
    if parts.auth:
        raise ConfigError(
            "The URL of C2 carries a name or password.", hint="Leave them out; the token is enough."
        )
    return url.rstrip("/")


def _uncertain(sentence: str) -> UncertainError:
    return UncertainError(
        f"{sentence} The job may have been accepted.",
        hint="Look with `qslurm queue` before you submit it again.",
    )


def never_sent(error: BaseException) -> bool:
    """Whether no byte of the request can have reached slurmrestd: the connection itself failed."""
    if isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.ProxyError):
        return True
    return any(
        isinstance(cause, NewConnectionError | ConnectionRefusedError | socket.gaierror)
        for cause in causes_of(error)
    )


def causes_of(error: BaseException) -> list[BaseException]:
    """The error and all it wraps; urllib3 keeps some in `reason`, requests some in `args`."""
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        cause = todo.pop()
        if not isinstance(cause, BaseException) or cause in found:
            continue
        found.append(cause)
        todo += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
    return found


def _innermost(error: BaseException) -> BaseException:
    """What the operating system said, if it said anything; a time-out before everything else."""
    causes = causes_of(error)
    said = [cause for cause in causes if isinstance(cause, OSError) and cause.strerror]
    late = [cause for cause in causes if isinstance(cause, TimeoutError)]
    heard: list[BaseException] = [error, *said, *late]
    return heard[-1]


def why(error: BaseException) -> str:
    """Why nobody could be reached, in the system's words."""
    inner = _innermost(error)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "no answer to the attempt to connect"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror[0].lower() + inner.strerror[1:]
    return type(inner).__name__
