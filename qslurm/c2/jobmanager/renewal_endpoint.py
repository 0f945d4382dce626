"""Renewing a center's token: the job manager passes it on to the service that has the keys, and sees none of them.

GET /v1/token says whether a token would be renewed, and until when; POST gives a fresh one for it.
"""

from __future__ import annotations

import threading
from typing import Any

from qslurm.errors import PermissionDeniedError, UnreachableError
from qslurm.protocol.token_renewal import request_renewal
from qslurm.tokens.secret import Secret

AT_A_TIME = 4
"""Questions to the service; a service that hangs must not keep the threads that other questions need."""


class RenewalEndpoint:
    """The way to the service at a socket ("": there is none)."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._turns = threading.BoundedSemaphore(AT_A_TIME)

    def document(self, center: str, token: str, *, only_look: bool) -> dict[str, Any]:
        """The answer as a center gets it: `expires` of the new token, or of this one, in Unix seconds.

        The errors are those of `ask`, and PermissionDeniedError where no service is configured.
        """
        if not self._socket:
            raise PermissionDeniedError(
                "This C2 does not renew tokens.",
                hint="Ask C2's operators for a new token before this one expires.",
            )
        if not self._turns.acquire(blocking=False):
            raise UnreachableError("C2's renewal service is busy.", hint="Try again later.")
        try:
            given = request_renewal(self._socket, Secret(token), dry_run=only_look)
        finally:
            self._turns.release()
        document = {"center": center, "expires": given.expires, "renewable_until": given.until}
        return document if only_look else document | {"token": given.token}
