"""Requests to this host's dispatcher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qslurm.protocol.messages import Message, Status


def ask(message: Message, config_file: Path | None) -> Message:
    """Send a request and return the dispatcher's answer; raises its error."""
    from qslurm.c2.config.file import load_c2_config
    from qslurm.protocol.dispatcher_client import DispatcherClient

    config = load_c2_config(config_file).dispatcher
    with DispatcherClient(config.socket, munge_socket=config.munge_socket) as client:
        return client.ask(message)


def ask_status(config_file: Path | None, *, jobs: bool = False, queue: int = 0) -> Status:
    """The dispatcher's status; with `jobs`, also the jobs that this user may see."""
    from qslurm.protocol.messages import GetStatus, Status

    answer = ask(GetStatus(jobs=jobs, queue=queue), config_file)
    assert isinstance(answer, Status)
    return answer
