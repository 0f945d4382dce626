"""Stories that share a host, and one that has to have it alone."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest
from host_lock import host_lock

from tests.unit.waiting import until


def is_waited_for(folder: Path) -> bool:
    """Whether a story that wanted to begin now would have to wait."""
    with (folder / "qslurm-stories.next").open("w") as next_, (folder / "qslurm-stories").open("w") as lock:
        try:
            fcntl.flock(next_, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def is_alone(folder: Path) -> bool:
    """Whether a story that has to be alone could begin now."""
    with (folder / "qslurm-stories").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_stories_run_beside_each_other_and_none_beside_one_that_is_alone(tmp_path: Path) -> None:
    with host_lock(alone=False, folder=tmp_path):
        assert not is_waited_for(tmp_path)
        assert not is_alone(tmp_path)
    with host_lock(alone=True, folder=tmp_path):
        assert is_waited_for(tmp_path)
    assert is_alone(tmp_path)


def test_a_story_that_failed_keeps_nobody_waiting(tmp_path: Path) -> None:
    with pytest.raises(AssertionError), host_lock(alone=True, folder=tmp_path):
        raise AssertionError
    assert is_alone(tmp_path)


def test_while_one_waits_to_be_alone_no_other_begins(tmp_path: Path) -> None:
    def take() -> None:
        with host_lock(alone=True, folder=tmp_path):
            pass

    with host_lock(alone=False, folder=tmp_path):
        assert not is_waited_for(tmp_path)
        waits = threading.Thread(target=take)
        waits.start()
        until(lambda: is_waited_for(tmp_path))
    waits.join()
    assert is_alone(tmp_path)
