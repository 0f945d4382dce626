"""How the warm runtimes of this host are: what their service answers to whoever asks."""

from __future__ import annotations

import socket

import msgspec

QUESTION = b"status"
PATIENCE_S = 3.0
_LIMIT = 65_536


class WarmStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`ready` runtimes of the `wanted` ones wait, `starting` are on their way.

    Since the service began, `given` were handed to jobs, and `cold` jobs asked in vain and started one themselves.
    """

    ready: int
    wanted: int
    given: int
    confined: bool
    pid: int
    starting: int = 0
    cold: int = 0


def ask_service(path: str, *, patience_s: float = PATIENCE_S) -> WarmStatus | None:
    """What the service says of itself; None if it is not there, or says nothing."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.settimeout(patience_s)
    try:
        link.connect(path)
        link.send(QUESTION)
        return msgspec.json.decode(link.recv(_LIMIT), type=WarmStatus)
    except (OSError, msgspec.DecodeError):
        return None
    finally:
        link.close()
