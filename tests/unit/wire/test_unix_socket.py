"""A connection to a Unix socket at whose door many stand."""

import errno
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from qslurm.errors import ConfigError, UnreachableError
from qslurm.wire.unix_socket import connect_unix_socket, listen_unix


def test_who_comes_behind_many_waits_its_turn(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as thread:
        listener.bind(path)
        listener.listen(0)
        crowd = [socket.socket(socket.AF_UNIX) for _ in range(8)]
        for one in crowd:
            one.setblocking(False)
        assert errno.EAGAIN in {one.connect_ex(path) for one in crowd}
        waits = thread.submit(connect_unix_socket, path, 60.0)
        listener.settimeout(0.01)
        while not waits.done():
            with suppress(TimeoutError):
                listener.accept()[0].close()
        assert waits.result().gettimeout() == 60.0
        for one in (*crowd, waits.result()):
            one.close()


def test_nobody_there_is_said_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        connect_unix_socket(str(tmp_path / "s"), 60.0)


def listen(path):
    return listen_unix(path, service="agent", setting="socket under [agent]")


def test_it_takes_the_place_of_one_that_was_killed_and_not_of_one_that_lives(home):
    path = home / "agent.sock"
    listen(path).close()
    assert path.is_socket()
    with listen(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        with pytest.raises(UnreachableError, match="Another agent is listening"):
            listen(path)


def test_it_says_where_it_cannot_listen(home):
    with pytest.raises(UnreachableError, match="The agent cannot listen on"):
        listen(home / "no folder" / "agent.sock")
    (home / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is not a socket"):
        listen(home / "file")
    assert (home / "file").read_text() == "mine"
