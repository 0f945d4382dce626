"""Terminates a session of the hardware if the process that holds it is killed.

A hardware server that was initialised and never terminated stays executing, and never calibrates.
"""

from __future__ import annotations

import logging

import msgspec

from qslurm.errors import QslurmError
from qslurm.system.guard_process import listen

log = logging.getLogger(__name__)


class HardwareGuardSettings(msgspec.Struct, frozen=True):
    """The server's command port, and how long to wait for its reply."""

    endpoint: str
    patience_s: float


def main() -> None:
    """The guard's main function; its note is the id of the open session."""
    settings, session = listen()
    if session:
        terminate(msgspec.json.decode(settings, type=HardwareGuardSettings), session)


def terminate(settings: HardwareGuardSettings, session: str) -> None:
    """Terminate a session whose process has ended. Sent once: a busy server replies when it is done."""
    import zmq

    from qslurm.runtimes.hardware.command_link import HardwareLink

    with zmq.Context() as context:
        link = HardwareLink(context, settings.endpoint)
        try:
            link.request(object, session, "terminate", timeout_s=settings.patience_s)
        except QslurmError as error:
            log.warning("cannot terminate session %s: %s", session, error)
        finally:
            link.close()
