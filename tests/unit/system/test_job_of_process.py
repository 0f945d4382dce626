"""Whose job a process is, is what the kernel says of it; no user can make it say something else."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from qslurm.system.job_of_process import Ancestor, job_among, job_of, name_of_watcher
from qslurm.wire.peer import Peer
from tests.unit.waiting import until

BASH = Ancestor("slurm_script", "/bin/bash", False)
WATCHER = Ancestor(name_of_watcher(12), "/usr/bin/python3", True)
FALSE = "slurmstepd: [99.batch]"


def stepd(title: str, *, name: str = "slurmstepd", is_roots: bool = True) -> Ancestor:
    return Ancestor(name, title, is_roots)


@pytest.mark.parametrize(
    ("ancestors", "job"),
    [
        ([], None),
        ([BASH], None),
        ([BASH, stepd("slurmstepd: [12.batch]")], 12),
        ([stepd("slurmstepd: [12.batch]")], 12),
        ([stepd("slurmstepd: [12.0]")], 12),
        ([stepd("slurmstepd: [12+1.batch]")], 12),
        ([stepd("slurmstepd: [12.extern]", name="slurmstepd-wlm")], 12),
        ([WATCHER], 12),
        ([stepd("/usr/sbin/slurmstepd")], None),
        # what a job can start, and call what it likes
        ([stepd(FALSE, is_roots=False)], None),
        ([stepd(FALSE, is_roots=False), BASH, stepd("slurmstepd: [12.batch]")], 12),
        ([stepd(FALSE), BASH, stepd("slurmstepd: [12.batch]")], 12),
        ([Ancestor("job-99", "x", False), WATCHER], 12),
        ([Ancestor("job-99", "x", True), BASH, stepd("slurmstepd: [12.batch]")], 12),
        ([Ancestor("bash", FALSE, True)], None),
        ([stepd("slurmstepd: [99.batch] [12.batch]", is_roots=False)], None),
    ],
)
def test_the_outermost_process_of_roots_that_slurm_has_named_says_whose_job_it_is(
    ancestors: list[Ancestor], job: int | None
) -> None:
    assert job_among(ancestors) == job


def test_this_process_is_in_no_job_and_one_that_is_gone_is_in_none() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert job_of(os.getpid()) is None
    assert job_of(pid) is None


@contextmanager
def watched_by(name: str) -> Iterator[tuple[int, socket.socket]]:
    """A process whose parent is called so, and a connection that it has made."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")  # a name of its own: who was killed may hold the last one for a moment
    listener.listen()
    parent = os.fork()
    if parent == 0:
        with open("/proc/self/comm", "w") as file:  # noqa: PTH123
            file.write(name)
        if os.fork() == 0:
            link = socket.socket(socket.AF_UNIX)
            link.connect(listener.getsockname())
        signal.pause()
    connection, _ = listener.accept()
    pid = Peer(connection).pid
    try:
        yield pid, connection
    finally:
        for one in (pid, parent):
            os.kill(one, signal.SIGKILL)
        os.waitpid(parent, 0)
        connection.close()
        listener.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root's processes count")
def test_a_process_of_a_watcher_is_of_its_job() -> None:
    with watched_by(name_of_watcher(4294967295)) as (pid, connection):
        assert job_of(pid) == 4294967295
        assert Peer(connection).job() == 4294967295


@pytest.mark.skipif(os.getuid() == 0, reason="root may say so")
def test_a_user_can_not_call_a_process_of_theirs_so() -> None:
    with watched_by(name_of_watcher(12)) as (pid, _):
        assert job_of(pid) is None


def test_a_peer_that_ended_before_anybody_asked_is_of_no_job() -> None:
    with watched_by(name_of_watcher(12)) as (pid, connection):
        peer = Peer(connection)
        assert peer.is_alive()
        os.kill(pid, signal.SIGKILL)
        until(lambda: not peer.is_alive())
        assert peer.job() is None
        assert peer.job() is None
