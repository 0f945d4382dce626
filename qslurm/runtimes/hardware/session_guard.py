"""Gives the hardware's lock back when the process that held it is killed.

A hardware server that was initialised and never terminated stays executing, and never calibrates.
"""

from __future__ import annotations

import logging

import msgspec

from qslurm.errors import QslurmError
from qslurm.system.guard import listen

log = logging.getLogger(__name__)


class HardwareGuardSettings(msgspec.Struct, frozen=True):
    """Where the server is, and how long to wait for its answer."""

    endpoint: str
    patience_s: float


def main() -> None:
    """What the guard does; what it is told of is the session that is open."""
    charge, session = listen()
    if session:
        terminate(msgspec.json.decode(charge, type=HardwareGuardSettings), session)


def terminate(charge: HardwareGuardSettings, session: str) -> None:
    """Terminate a session whose holder is gone. Asked once: a server that is busy answers when it is done."""
    import zmq

    from qslurm.runtimes.hardware.command_link import HardwareLink

    with zmq.Context() as context:
        link = HardwareLink(context, charge.endpoint)
        try:
            link.ask(object, session, "terminate", timeout_s=charge.patience_s)
        except QslurmError as error:
            log.warning("cannot terminate session %s: %s", session, error)
        finally:
            link.close()
