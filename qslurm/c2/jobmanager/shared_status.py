"""The dispatcher's status, as all centers share it."""

from __future__ import annotations

import threading
import time

from qslurm.c2.config.file import C2Config
from qslurm.errors import UnreachableError
from qslurm.protocol.messages import GetStatus, Status

STATUS_AGE_S = 1.0
"""Seconds for which one answer of the dispatcher serves all centers."""

STATUS_LIMIT_S = 2.0
"""Seconds that the dispatcher may take to answer."""


class SharedStatus:
    """The dispatcher's status, asked for at most every `age_s`; it may take `limit_s` to answer."""

    def __init__(
        self, config: C2Config, age_s: float = STATUS_AGE_S, limit_s: float = STATUS_LIMIT_S
    ) -> None:
        self._socket = config.dispatcher.socket
        self._age_s, self._limit_s = age_s, limit_s
        self._lock = threading.Lock()
        self._status: Status | UnreachableError | None = None
        self._asked = float("-inf")

    def get(self) -> Status:
        """The status; UnreachableError if the dispatcher is silent."""
        with self._lock:
            if self._status is None or time.monotonic() - self._asked > self._age_s:
                # A silence is remembered, too: who waits for it one after the other keeps threads from all others.
                self._status = self._ask()
                self._asked = time.monotonic()
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
