"""Verifies credentials in threads, since munged may be slow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from qslurm.c2.dispatcher.listeners.listeners import SignedRequest
from qslurm.c2.dispatcher.worker_threads import WorkerThreads
from qslurm.errors import QslurmError
from qslurm.wire.credentials import Identity

_AT_A_TIME = 64  # further requests are refused, to be repeated
_AT_A_TIME_PER_USER = 16

Sender = int | QslurmError
"""The verified uid of the sender, or the error of the verification."""


class CredentialChecks:
    """CredentialChecks credentials, and hands on who sent what in the loop's own thread."""

    def __init__(self, identity: Identity, threads: WorkerThreads, kind: str = "verify") -> None:
        self._identity = identity
        self._threads = threads
        self._kind = kind
        self._under_way: Counter[int | None] = Counter()

    def verify(
        self, request: SignedRequest, then: Callable[[Sender], None], owner: int | None = None
    ) -> bool:
        """Call `then` with the sender, now or later, in the main loop. False if too many checks are under way.

        `owner` is the uid of the connection's peer, if known.
        """
        if self._identity.instant:
            then(self._verify(request))
            return True
        own = self._under_way[owner]
        if self._under_way.total() >= _AT_A_TIME or (owner is not None and own >= _AT_A_TIME_PER_USER):
            return False

        def verified(sender: Sender) -> None:
            self._under_way[owner] -= 1
            if not self._under_way[owner]:
                del self._under_way[owner]
            then(sender)

        self._under_way[owner] += 1
        self._threads.submit(self._kind, lambda: self._verify(request), verified)
        return True

    def _verify(self, request: SignedRequest) -> Sender:
        try:
            return self._identity.verify(request.credential, request.body)
        except QslurmError as error:
            return error
