"""Renewing a center's token: the job manager passes it on to the service that has the keys, and sees none of them.

GET /v1/token says whether a token would be renewed, and until when; POST gives a fresh one for it.
"""

from __future__ import annotations

from typing import Any

from qslurm.errors import PermissionDeniedError
from qslurm.tokens.door import ask
from qslurm.tokens.secret import Secret


def renewal_document(socket: str, center: str, token: str, *, only_look: bool) -> dict[str, Any]:
    """The answer as a center gets it: `expires` of the new token, or of this one, in Unix seconds.

    The errors are those of `ask`, and PermissionDeniedError where no service is configured.
    """
    if not socket:
        raise PermissionDeniedError(
            "This C2 does not renew tokens.", hint="Ask C2's operators for a new one before this one ends."
        )
    given = ask(socket, Secret(token), only_look=only_look)
    document = {"center": center, "expires": given.expires, "renewable_until": given.until}
    return document if only_look else document | {"token": given.token}
