"""Requests to one slurmrestd in the negotiated API version."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from qslurm.errors import QslurmError, UnreachableError
from qslurm.slurm.rest.adapters import ADAPTERS, AUTO, Adapter, parse_version
from qslurm.slurm.rest.classify import Verdict, answers, classify
from qslurm.slurm.rest.refusals import error_for

if TYPE_CHECKING:
    from qslurm.slurm.rest.transport import Transport

SUBMIT = "{control}/job/submit"

_MAYBE_THE_TOKEN = ("token_or_silence", "token_or_cut", "token_or_lost", "token_or_accounting")
_NEVER = 2**31 - 1
_AT_ONCE_S = 5.0
"""slurmrestd waits 10 s for its slurmctld (MessageTimeout)."""

WITHOUT_ACCOUNTING = ("token_or_accounting", "no_accounting")
"""Verdicts that do not come from slurmctld itself."""


class VersionNegotiation:
    """Requests to one slurmrestd. Not thread-safe.

    `connect` opens the way there, when it is first needed. `api_version` is "auto" or a version; with "auto"
    `known_version` is believed until the server knows it no more, and `on_version` is told each version that was
    found by asking.
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

    def exchange(
        self,
        method: str,
        path: str,
        body: Callable[[Adapter], bytes] | None = None,
        *,
        beside: bool = False,
    ) -> Verdict:
        """Send a request and classify its response. `path` begins with {control} or {accounting}.

        A server that has been upgraded meanwhile has not acted on a request in a version it does not know: the
        version is found anew, and the request sent in that one. One whose version needs slurmdbd has not acted while
        that is away, either, but for submissions: the request is sent in the version beside it, where there is one.
        With `beside` that one is asked at once; where there is none, the answer is "no_such_path".
        """
        if beside:
            return self._beside(method, path, body)
        verdict = self._said(self.adapter, method, path, body)
        if verdict.kind == "no_such_path" and self._negotiable and self._version_is_gone(path):
            self._adapter = None
            verdict = self._said(self.adapter, method, path, body)
        if verdict.kind in WITHOUT_ACCOUNTING and path.startswith("{control}") and path != SUBMIT:
            neighbour = self._beside(method, path, body)
            return verdict if neighbour.kind == "no_such_path" else neighbour
        return verdict

    def ask(self, path: str, what: str) -> Verdict:
        """The successful response to a query; raises its error otherwise."""
        verdict = self.exchange("GET", path)
        if verdict.kind != "ok":
            raise self.explained(verdict, what)
        return verdict

    def explained(
        self, verdict: Verdict, what: str, *, submitting: bool = False, adapter: Adapter | None = None
    ) -> QslurmError:
        """The error, after querying the other daemon where a refused token looks like a silent daemon."""
        spoken = adapter or self.adapter
        refused: bool | None = False
        if (
            verdict.kind == "no_accounting" and spoken.names_refused_tokens
        ):  # slurmctld does; 26.05's slurmdbd not
            refused = self._send("GET", f"{spoken.control}/job/1").kind == "token"
        elif verdict.kind in _MAYBE_THE_TOKEN and not spoken.names_refused_tokens:
            refused = self._token_is_refused(spoken)
        if refused:
            return error_for(Verdict("token"), what)
        if submitting and verdict.kind == "token_or_accounting" and verdict.warnings:
            return error_for(
                Verdict("ok", warnings=verdict.warnings), what
            )  # it was not taken for what they say
        if verdict.kind == "token_or_accounting" and refused is False:
            return error_for(Verdict("no_accounting"), what, submitting=submitting)
        if verdict.kind == "token_or_silence" and refused is None and not submitting:
            return UnreachableError(
                "C2's Slurm does not answer its slurmrestd, or refused the token.",
                hint="Check the token with `qslurm token check`; if it is valid, try again later.",
            )
        return error_for(verdict, what, submitting=submitting)

    def _said(
        self, spoken: Adapter, method: str, path: str, body: Callable[[Adapter], bytes] | None
    ) -> Verdict:
        full = path.format(control=spoken.control, accounting=spoken.accounting)
        return self._send(method, full, body(spoken) if body else None, submitting=path == SUBMIT)

    def _beside(self, method: str, path: str, body: Callable[[Adapter], bytes] | None = None) -> Verdict:
        """The verdict in the neighbouring version; "no_such_path" if there is none."""
        other = ADAPTERS.get(self.adapter.beside)
        return self._said(other, method, path, body) if other else Verdict("no_such_path")

    def _version_is_gone(self, path: str) -> bool:
        """Whether a path is missing for its version, rather than for want of slurmdbd's plugin."""
        if path.startswith("{control}"):
            return True
        return self._send("GET", f"{self.adapter.control}/ping").kind == "no_such_path"

    def _negotiated(self) -> Adapter:
        """Find the newest common version by pinging.

        One ping of a version that is not served takes 1 to 6 ms; the list of all paths (/openapi/v3) has 1.6 MB,
        takes 130 to 200 ms, and would prove neither token nor slurmctld (measured with 24.11 and 26.05).
        """
        for adapter in ADAPTERS.values():
            verdict = self._send("GET", f"{adapter.control}/ping")
            if verdict.kind == "ok":
                if self._on_version is not None:
                    self._on_version(adapter.version)
                return adapter
            if verdict.kind != "no_such_path":
                raise self.explained(verdict, "the ping", adapter=adapter)
        raise UnreachableError(
            f"C2's slurmrestd at {self._url} supports none of the API versions {', '.join(ADAPTERS)}.",
            hint="Check that the URL is slurmrestd's, or ask C2's operators for its API versions.",
        )

    def _token_is_refused(self, spoken: Adapter) -> bool | None:
        """Whether C2 refuses the token; None if unknown.

        slurmdbd says so clearly (1007) on 22.05 only; 23.02 says the same of a slurmdbd that is away. Then slurmctld's
        "UP" in a ping proves the token, and a slurmctld that is there, but gives no answer, refuses it (1000, 23.02):
        within milliseconds, where one that is frozen is waited for.
        """
        try:
            verdict = self._send("GET", f"{spoken.accounting}/job/1")
            if verdict.kind in ("token", "ok", "unknown_job"):
                return verdict.kind == "token"
            ping = self._send("GET", f"{spoken.control}/ping")
            if ping.kind == "ok" and any(answers(entry) for entry in ping.body.get("pings") or []):
                return False
            began = time.monotonic()
            changed = self._send(
                "GET", f"{spoken.control}/jobs?update_time={_NEVER}"
            )  # needs no slurmdbd, lists none
        except UnreachableError:
            return None
        at_once = time.monotonic() - began < _AT_ONCE_S
        return True if changed.kind == "token_or_lost" and at_once else None

    def _send(
        self, method: str, path: str, body: bytes | None = None, *, submitting: bool = False
    ) -> Verdict:
        if self._transport is None:
            self._transport = self._connect()
        answer = self._transport.send(method, path, body, submitting=submitting)
        return classify(answer.status, answer.content_type, answer.body)
