"""Renews a center's token by the renewal service, which alone has the keys.

GET /v1/token says until when the token can be renewed; POST renews it.
"""

from __future__ import annotations

import threading
from typing import Any

from qslurm.errors import PermissionDeniedError, UnreachableError
from qslurm.protocol.token_renewal import request_renewal
from qslurm.tokens.secret import Secret

AT_A_TIME = 4
"""Concurrent requests to the service, which must not occupy all threads if it hangs."""


class RenewalEndpoint:
    """The client of the renewal service at a socket ("": none is configured)."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._turns = threading.BoundedSemaphore(AT_A_TIME)

    def document(self, center: str, token: str, *, dry_run: bool) -> dict[str, Any]:
        """The response to a center: `expires` is the new token's, with `dry_run` this one's (Unix seconds).

        Raises the errors of `request_renewal`, and PermissionDeniedError if no service is configured.
        """
        if not self._socket:
            raise PermissionDeniedError(
                "This C2 does not renew tokens.",
                hint="Ask C2's operators for a new token before this one expires.",
            )
        if not self._turns.acquire(blocking=False):
            raise UnreachableError("C2's renewal service is busy.", hint="Try again later.")
        try:
            renewed = request_renewal(self._socket, Secret(token), dry_run=dry_run)
        finally:
            self._turns.release()
        document = {"center": center, "expires": renewed.expires, "renewable_until": renewed.until}
        return document if dry_run else document | {"token": renewed.token}
