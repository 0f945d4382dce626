"""Finds out who sent a message, without holding up the loop: munged may take its time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from qslurm.c2.dispatcher.listeners.listeners import SignedRequest
from qslurm.c2.dispatcher.worker_threads import WorkerThreads
from qslurm.errors import QslurmError
from qslurm.wire.credentials import Identity

_AT_A_TIME = 64  # who comes then is asked to come again
_OF_ONE = 16  # of these, of one user: others must not bounce because of them

Sender = int | QslurmError
"""The uid of whoever sent a message, or why nobody can say."""


class CredentialChecks:
    """CredentialChecks credentials, and hands on who sent what in the loop's own thread."""

    def __init__(self, identity: Identity, threads: WorkerThreads, kind: str = "verify") -> None:
        self._identity = identity
        self._threads = threads
        self._kind = kind  # has threads of its own
        self._under_way: Counter[int | None] = Counter()

    def ask(self, request: SignedRequest, then: Callable[[Sender], None], owner: int | None = None) -> bool:
        """Call `then` with the sender, now or soon; False if too many ask at once, and it will not be called.

        `owner` is the user at the other end of the connection, if that is known.
        """
        if self._identity.instant:
            then(self._verify(request))
            return True
        own = self._under_way[owner]
        if self._under_way.total() >= _AT_A_TIME or (owner is not None and own >= _OF_ONE):
            return False

        def found(sender: Sender) -> None:
            self._under_way[owner] -= 1
            if not self._under_way[owner]:
                del self._under_way[owner]
            then(sender)

        self._under_way[owner] += 1
        self._threads.do(self._kind, lambda: self._verify(request), found)
        return True

    def _verify(self, request: SignedRequest) -> Sender:
        try:
            return self._identity.verify(request.credential, request.body)
        except QslurmError as error:
            return error
