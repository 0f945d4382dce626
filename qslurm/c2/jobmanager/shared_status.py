"""The dispatcher's status, cached for all centers."""

from __future__ import annotations

import threading
import time

from qslurm.c2.config.file import C2Config
from qslurm.errors import UnreachableError
from qslurm.protocol.messages import GetStatus, Status

STATUS_AGE_S = 1.0
"""Seconds for which a status is cached."""

STATUS_LIMIT_S = 2.0
"""Time limit for the dispatcher's answer."""


class SharedStatus:
    """The dispatcher's status, queried at most every `age_s`, with the time limit `limit_s`."""

    def __init__(
        self, config: C2Config, age_s: float = STATUS_AGE_S, limit_s: float = STATUS_LIMIT_S
    ) -> None:
        self._socket = config.dispatcher.socket
        self._age_s, self._limit_s = age_s, limit_s
        self._lock = threading.Lock()
        self._status: Status | UnreachableError | None = None
        self._queried_at = float("-inf")

    def get(self) -> Status:
        """The status; UnreachableError if the dispatcher does not answer."""
        with self._lock:
            if self._status is None or time.monotonic() - self._queried_at > self._age_s:
                # A failure is cached as well: requests that wait for it in turn would occupy all threads.
                self._status = self._ask()
                self._queried_at = time.monotonic()
            if isinstance(self._status, UnreachableError):
                raise UnreachableError(self._status.message, hint=self._status.hint)
            return self._status

    def _ask(self) -> Status | UnreachableError:
        from qslurm.protocol.dispatcher_client import DispatcherClient

        try:
            with DispatcherClient(self._socket, timeout_s=self._limit_s) as client:
                answer = client.ask(GetStatus())
        except UnreachableError as error:
            return error
        if not isinstance(answer, Status):
            return UnreachableError("The dispatcher does not report its status.")
        return answer
