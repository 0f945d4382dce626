"""The state of this host's warm runtimes, as their service reports it."""

from __future__ import annotations

import socket

import msgspec

STATUS_REQUEST = b"status"
PATIENCE_S = 3.0
_LIMIT = 65_536


class WarmStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`ready` of the `wanted` runtimes are idle, `starting` are being made.

    Since the service started, `given` were assigned to jobs, and `cold` jobs got none and started one
    themselves.
    """

    ready: int
    wanted: int
    given: int
    confined: bool
    pid: int
    starting: int = 0
    cold: int = 0


def query_warm_status(path: str, *, patience_s: float = PATIENCE_S) -> WarmStatus | None:
    """The service's state; None if it does not answer."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.settimeout(patience_s)
    try:
        link.connect(path)
        link.send(STATUS_REQUEST)
        return msgspec.json.decode(link.recv(_LIMIT), type=WarmStatus)
    except (OSError, msgspec.DecodeError):
        return None
    finally:
        link.close()
