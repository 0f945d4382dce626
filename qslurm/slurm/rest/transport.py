"""A persistent HTTP connection to slurmrestd. Imports requests, so import it lazily.

What this module takes care of: a time-out on every wait, answers of bounded size, no redirect followed,
nothing taken from the environment (proxies, .netrc), a token in no text, and the difference between "never
sent" and "sent, and no answer".
"""

from __future__ import annotations

import io
import socket
import time
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPResponse
from typing import Any

import requests
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.exceptions import NewConnectionError
from urllib3.util import parse_url

from qslurm.errors import ConfigError, UncertainError, UnreachableError
from qslurm.slurm.rest.endpoint import Endpoint
from qslurm.slurm.rest.http_session import distrust, open_session

MAX_ANSWER = 256 * 1024 * 1024
"""Maximum bytes of a response; a listing of 5,000 jobs has 32 MB (measured with 23.02)."""

_CHUNK = 64 * 1024
_CONNECT_TIMEOUT_S = 10.0
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # answers are read as they come, within bounds
    "Connection": "keep-alive",
}


@dataclass(frozen=True)
class Answer:
    """A complete HTTP response."""

    status: int
    content_type: str
    body: bytes


class _InTime(io.RawIOBase):
    """A response stream with a deadline, so that a slow server cannot hold its client."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._connection, self.until = connection, until
        self._patience_s = connection.gettimeout()
        self._stream = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Whether it is readable: always."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read available bytes; TimeoutError after the deadline."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the response takes too long")
        self._connection.settimeout(left if self._patience_s is None else min(left, self._patience_s))
        try:
            return self._stream.readinto(buffer)
        finally:
            self._connection.settimeout(self._patience_s)

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()
        super().close()


class _Response(HTTPResponse):
    """A response that begins within the time-out and is complete within twice that."""

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
    """Makes the kernel acknowledge the response immediately (TCP_QUICKACK).

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
    """A connection whose responses have a deadline."""

    response_class = _Response


class Https(_AckAtOnce, HTTPSConnection):
    """The same with TLS."""

    response_class = _Response


class Transport:
    """Sends requests to one slurmrestd. Not thread-safe, as requests.Session is not."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._url = check_url(endpoint.url)
        self._timeout_s = endpoint.timeout_s
        self._session = open_session(endpoint, Http, Https)
        self._user, self._token = endpoint.user, endpoint.token

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def send(self, method: str, path: str, body: bytes | None = None, *, submitting: bool = False) -> Answer:
        """Send a request once. UnreachableError without an answer, UncertainError for a submission.

        The answer must begin within `timeout_s` and be complete within twice that.
        """
        until = time.monotonic() + 2 * self._timeout_s
        try:
            # by the adapter, which follows no redirect: a session's cookies and hooks take longer than all the rest
            response = self._session.get_adapter(self._url).send(
                self._prepared(method, path, body),
                timeout=(min(_CONNECT_TIMEOUT_S, self._timeout_s), self._timeout_s),
                stream=True,
                verify=self._session.verify or False,
                proxies=self._session.proxies,
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

    @cached_property
    def _base_url(self) -> str:
        """The URL as requests normalizes it (IDNA, percent-encoding)."""
        request = requests.PreparedRequest()
        request.prepare_url(self._url, None)
        return str(request.url).rstrip("/")

    def _prepared(self, method: str, path: str, body: bytes | None) -> requests.PreparedRequest:
        """The request, without requests' own preparation, which takes a third as long as sending it."""
        request = requests.PreparedRequest()
        request.method, request.url, request.body = method, self._base_url + path, body
        request.hooks = requests.hooks.default_hooks()
        request.headers = CaseInsensitiveDict(_HEADERS)
        if body is not None:
            request.headers["Content-Type"] = "application/json"
            request.headers["Content-Length"] = str(len(body))
        # here and nowhere else, so that no printable object holds the token for longer than the request
        if self._user:
            request.headers["X-SLURM-USER-NAME"] = self._user
        request.headers["X-SLURM-USER-TOKEN"] = self._token.reveal()
        return request

    def _no_answer(self, error: Exception, submitting: bool) -> UnreachableError:
        if (distrusted := distrust(self._url, causes_of(error))) is not None:
            return distrusted
        if never_sent(error):
            return UnreachableError(
                f"C2's slurmrestd at {self._url} is unreachable{by_proxy(error)}: {why(error)}.",
                hint="Check the URL, and that this host can connect to C2.",
            )
        what = what_happened(error, self._timeout_s)
        if submitting:
            return _uncertain(f"C2's slurmrestd at {self._url} {what}.")
        return UnreachableError(f"C2's slurmrestd at {self._url} {what}.", hint="Try again later.")


def read_whole(response: requests.Response, until: float, who: str) -> bytes:
    """Read a response's body; UnreachableError if it is too large or too late."""
    read = getattr(response.raw, "read1", response.raw.read)
    pieces: list[bytes] = []
    size = 0
    while piece := read(_CHUNK):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER:
            raise UnreachableError(f"{who} sent more than {MAX_ANSWER // 2**20} MiB.", hint="Check the URL.")
        if time.monotonic() > until:
            raise UnreachableError(
                f"{who} is too slow: its response was incomplete after the time-out.",
                hint="Try again later, or set a longer timeout_s.",
            )
    return b"".join(pieces)


def what_happened(error: BaseException, timeout_s: float) -> str:
    """How a possibly received request failed, as text: no answer in time, or connection closed."""
    slow = isinstance(error, requests.exceptions.Timeout) or isinstance(_innermost(error), TimeoutError)
    return f"did not answer within {timeout_s:g} s" if slow else "closed the connection"


def by_proxy(error: BaseException) -> str:
    """Say that the proxy, rather than C2, could not be reached."""
    return " through the proxy" if isinstance(error, requests.exceptions.ProxyError) else ""


def check_url(url: str) -> str:
    """The URL without a trailing slash; ConfigError if it is not http(s) or contains a password."""
    try:
        parts = parse_url(url)
    except Urllib3Error as error:
        raise ConfigError(
            f"Invalid C2 URL {url!r}.", hint="Use http(s)://HOST[:PORT], for example https://host:6820."
        ) from error
    if parts.scheme not in ("http", "https") or not parts.host or parts.query or parts.fragment:
        raise ConfigError(
            f"Invalid C2 URL {url!r}.", hint="Use http(s)://HOST[:PORT], for example https://host:6820."
        )
    if parts.auth:
        raise ConfigError(
            "The C2 URL contains a user name or password.", hint="Remove them; the token authenticates."
        )
    return url.rstrip("/")


def _uncertain(sentence: str) -> UncertainError:
    return UncertainError(
        f"{sentence} The job may have been accepted.",
        hint="Check `qslurm queue` before you submit it again.",
    )


def never_sent(error: BaseException) -> bool:
    """Whether connecting failed, so that no byte of the request was sent."""
    if isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.ProxyError):
        return True
    return any(
        isinstance(cause, NewConnectionError | ConnectionRefusedError | socket.gaierror)
        for cause in causes_of(error)
    )


def causes_of(error: BaseException) -> list[BaseException]:
    """The error and all it wraps; urllib3 uses `reason`, requests uses `args`."""
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
    """The operating system's error, if any; time-outs take precedence."""
    causes = causes_of(error)
    system_errors = [cause for cause in causes if isinstance(cause, OSError) and cause.strerror]
    late = [cause for cause in causes if isinstance(cause, TimeoutError)]
    heard: list[BaseException] = [error, *system_errors, *late]
    return heard[-1]


def why(error: BaseException) -> str:
    """Why the connection failed, in the system's words."""
    inner = _innermost(error)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "connection timed out"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror[0].lower() + inner.strerror[1:]
    return type(inner).__name__
