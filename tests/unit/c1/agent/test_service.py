"""Where the agent listens."""

import stat

import pytest

from qslurm.c1.agent.service import _unix_socket
from qslurm.errors import ConfigError, UnreachableError


def test_it_takes_the_place_of_one_that_was_killed_and_not_of_one_that_lives(home):
    path = home / "agent.sock"
    _unix_socket(path).close()
    with _unix_socket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        with pytest.raises(UnreachableError, match="Another agent listens"):
            _unix_socket(path)


def test_it_says_where_it_cannot_listen(home):
    with pytest.raises(UnreachableError, match="can't listen at"):
        _unix_socket(home / "no folder" / "agent.sock")
    (home / "file").touch()
    with pytest.raises(ConfigError, match="no socket"):
        _unix_socket(home / "file")
