"""Requests to one slurmrestd in the negotiated API version."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from qslurm.errors import QslurmError, UnreachableError
from qslurm.slurm.rest.adapters import ADAPTERS, AUTO, Adapter, parse_version
from qslurm.slurm.rest.classify import ClassifiedResponse, answers, classify
from qslurm.slurm.rest.refusals import error_for

if TYPE_CHECKING:
    from qslurm.slurm.rest.transport import Transport

SUBMIT = "{control}/job/submit"

_MAYBE_THE_TOKEN = ("token_or_silence", "token_or_cut", "token_or_lost", "token_or_accounting")
_NEVER = 2**31 - 1
_AT_ONCE_S = 5.0
"""slurmrestd waits 10 s for its slurmctld (MessageTimeout)."""

WITHOUT_ACCOUNTING = ("token_or_accounting", "no_accounting")
"""Kinds of responses that are not slurmctld's own."""


class VersionNegotiation:
    """Requests to one slurmrestd. Not thread-safe.

    `connect` is called for the first request. `api_version` is "auto" or a version. With "auto", `known_version` is
    used until the server no longer serves it, and `on_version` is called with each negotiated version.
    """

    def __init__(
        self,
        url: str,
        connect: Callable[[], Transport],
        *,
        api_version: str = AUTO,
        known_version: str | None = None,
        on_version: Callable[[str], None] | None = None,
    ) -> None:
        self._url, self._connect, self._on_version = url, connect, on_version
        requested = parse_version(api_version)
        self._negotiable = requested == AUTO
        self._adapter = ADAPTERS.get(known_version or "") if self._negotiable else ADAPTERS[requested]
        self._transport: Transport | None = None

    def close(self) -> None:
        """Close the connection; the next request reopens it."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    @property
    def adapter(self) -> Adapter:
        """The adapter of the API version; negotiated if not known yet."""
        if self._adapter is None:
            self._adapter = self._negotiated()
        return self._adapter

    def request(
        self,
        method: str,
        path: str,
        body: Callable[[Adapter], bytes] | None = None,
        *,
        in_fallback: bool = False,
    ) -> ClassifiedResponse:
        """Send a request and classify its response. `path` begins with {control} or {accounting}.

        If the server no longer serves the version, it has not acted: the version is negotiated again and the request
        repeated. If the version needs slurmdbd, which is down, it has not acted either, except on submissions: the
        request is repeated in the fallback version, if there is one. With `in_fallback` that version is used at once;
        the response is "no_such_path" if there is none.
        """
        if in_fallback:
            return self._request_in_fallback(method, path, body)
        response = self._request_in(self.adapter, method, path, body)
        if response.kind == "no_such_path" and self._negotiable and self._version_is_gone(path):
            self._adapter = None
            response = self._request_in(self.adapter, method, path, body)
        if response.kind in WITHOUT_ACCOUNTING and path.startswith("{control}") and path != SUBMIT:
            fallback = self._request_in_fallback(method, path, body)
            return response if fallback.kind == "no_such_path" else fallback
        return response

    def ask(self, path: str, what: str) -> ClassifiedResponse:
        """The successful response to a query; raises its error otherwise."""
        response = self.request("GET", path)
        if response.kind != "ok":
            raise self.to_error(response, what)
        return response

    def to_error(
        self,
        response: ClassifiedResponse,
        what: str,
        *,
        submitting: bool = False,
        adapter: Adapter | None = None,
    ) -> QslurmError:
        """The error of a response. Sends another request to tell a refused token from a daemon that is down."""
        adapter = adapter or self.adapter
        refused: bool | None = False
        if (
            response.kind == "no_accounting" and adapter.names_refused_tokens
        ):  # slurmctld does; 26.05's slurmdbd not
            refused = self._send("GET", f"{adapter.control}/job/1").kind == "token"
        elif response.kind in _MAYBE_THE_TOKEN and not adapter.names_refused_tokens:
            refused = self._token_is_refused(adapter)
        if refused:
            return error_for(ClassifiedResponse("token"), what)
        if submitting and response.kind == "token_or_accounting" and response.warnings:
            return error_for(
                ClassifiedResponse("ok", warnings=response.warnings), what
            )  # it was not taken for what they say
        if response.kind == "token_or_accounting" and refused is False:
            return error_for(ClassifiedResponse("no_accounting"), what, submitting=submitting)
        if response.kind == "token_or_silence" and refused is None and not submitting:
            return UnreachableError(
                "C2's Slurm does not answer its slurmrestd, or refused the token.",
                hint="Check the token with `qslurm token check`; if it is valid, try again later.",
            )
        return error_for(response, what, submitting=submitting)

    def _request_in(
        self, adapter: Adapter, method: str, path: str, body: Callable[[Adapter], bytes] | None
    ) -> ClassifiedResponse:
        full = path.format(control=adapter.control, accounting=adapter.accounting)
        return self._send(method, full, body(adapter) if body else None, submitting=path == SUBMIT)

    def _request_in_fallback(
        self, method: str, path: str, body: Callable[[Adapter], bytes] | None = None
    ) -> ClassifiedResponse:
        """The response in the fallback version; "no_such_path" if there is none."""
        other = ADAPTERS.get(self.adapter.fallback_version)
        return self._request_in(other, method, path, body) if other else ClassifiedResponse("no_such_path")

    def _version_is_gone(self, path: str) -> bool:
        """Whether a path is missing because of its version, rather than because slurmdbd's plugin is not loaded."""
        if path.startswith("{control}"):
            return True
        return self._send("GET", f"{self.adapter.control}/ping").kind == "no_such_path"

    def _negotiated(self) -> Adapter:
        """Find the newest common version by pings.

        A ping in a version that is not served takes 1 to 6 ms. The list of all paths (/openapi/v3) has 1.6 MB, takes
        130 to 200 ms, and tests neither token nor slurmctld (24.11 and 26.05).
        """
        for adapter in ADAPTERS.values():
            response = self._send("GET", f"{adapter.control}/ping")
            if response.kind == "ok":
                if self._on_version is not None:
                    self._on_version(adapter.version)
                return adapter
            if response.kind != "no_such_path":
                raise self.to_error(response, "the ping", adapter=adapter)
        raise UnreachableError(
            f"C2's slurmrestd at {self._url} supports none of the API versions {', '.join(ADAPTERS)}.",
            hint="Check that the URL is slurmrestd's, or ask C2's operators for its API versions.",
        )

    def _token_is_refused(self, adapter: Adapter) -> bool | None:
        """Whether C2 refuses the token; None if unknown.

        On 22.05 slurmdbd reports it (1007); on 23.02 the same error may mean that slurmdbd is down. Then "UP" in a ping
        proves the token, and error 1000 within milliseconds means that slurmctld refused it; a frozen slurmctld takes
        until slurmrestd's time-out.
        """
        try:
            response = self._send("GET", f"{adapter.accounting}/job/1")
            if response.kind in ("token", "ok", "unknown_job"):
                return response.kind == "token"
            ping = self._send("GET", f"{adapter.control}/ping")
            if ping.kind == "ok" and any(answers(entry) for entry in ping.body.get("pings") or []):
                return False
            began = time.monotonic()
            changed = self._send(
                "GET", f"{adapter.control}/jobs?update_time={_NEVER}"
            )  # needs no slurmdbd, lists none
        except UnreachableError:
            return None
        at_once = time.monotonic() - began < _AT_ONCE_S
        return True if changed.kind == "token_or_lost" and at_once else None

    def _send(
        self, method: str, path: str, body: bytes | None = None, *, submitting: bool = False
    ) -> ClassifiedResponse:
        if self._transport is None:
            self._transport = self._connect()
        answer = self._transport.send(method, path, body, submitting=submitting)
        return classify(answer.status, answer.content_type, answer.body)
