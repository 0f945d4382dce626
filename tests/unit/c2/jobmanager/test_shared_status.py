"""The dispatcher's status, as all centers share it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from qslurm.c2.config.dispatcher_section import DispatcherConfig
from qslurm.c2.config.file import C2Config
from qslurm.c2.jobmanager.shared_status import SharedStatus
from qslurm.errors import UnreachableError


def test_a_silent_dispatcher_is_waited_for_once_and_not_by_everybody_in_turn(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        status = SharedStatus(C2Config(dispatcher=DispatcherConfig(socket=path)), age_s=1000.0, limit_s=0.05)
        for _ in range(3):
            with pytest.raises(UnreachableError):
                status.get()
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()  # nobody else has come
