"""A connection to a Unix socket at whose door many stand."""

import errno
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from qslurm.system.unix_socket import connected_unix


def test_who_comes_behind_many_waits_its_turn(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as thread:
        listener.bind(path)
        listener.listen(0)
        crowd = [socket.socket(socket.AF_UNIX) for _ in range(8)]
        for one in crowd:
            one.setblocking(False)
        assert errno.EAGAIN in {one.connect_ex(path) for one in crowd}
        waits = thread.submit(connected_unix, path, 60.0)
        listener.settimeout(0.01)
        while not waits.done():
            with suppress(TimeoutError):
                listener.accept()[0].close()
        assert waits.result().gettimeout() == 60.0
        for one in (*crowd, waits.result()):
            one.close()


def test_nobody_there_is_said_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        connected_unix(str(tmp_path / "s"), 60.0)
