"""A user of the host attacks the dispatcher's socket, and another user's job goes on."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import floods
import pytest
from bench.runtimes import service as warm_service
from bench.runtimes import started_by, warm
from testbed.process import peak_memory_mb

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.messages import Admitted
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from tests.unit.c2.dispatcher.running import BELL, Running, hybrid_job, in_job
from tests.unit.waiting import until
from tests.unit.wire.test_credentials import MUNGED

pytestmark = pytest.mark.slurm

ATTACKER, VICTIM = 65_001, 65_002  # users that nobody is
STEPS = 200
MEMORY_MB = 400
"""What the dispatcher may take at the worst, with all attacks at once: 64 MB of halves and what Python needs."""

_fork = multiprocessing.get_context("fork")


@pytest.fixture
def running() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="qs-", dir="/dev/shm"))
    folder.chmod(0o711)
    backend = BackendConfig(name="qx", runtime="null")
    with munged(folder) as socket_, Running(folder, munge_socket=socket_, backend=backend) as running:
        yield running.ready()
    shutil.rmtree(folder)


@contextmanager
def munged(folder: Path) -> Iterator[str]:
    """A munged with a key of its own; its socket."""
    assert MUNGED is not None
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o600)
    process = subprocess.Popen(
        [
            MUNGED, "--foreground", "--force", f"--socket={folder}/s", f"--key-file={folder}/key",
            f"--pid-file={folder}/pid", f"--seed-file={folder}/seed", f"--log-file={folder}/munge.log",
        ],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: (folder / "s").exists() or process.poll() is not None)
        yield f"{folder}/s"
    finally:
        process.terminate()
        process.wait()


def as_user(uid: int, work: Callable[..., None], *arguments: object) -> multiprocessing.Process:
    """A process of that user's; it is killed when this one ends."""

    def become() -> None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        work(*arguments)

    process = _fork.Process(target=become, daemon=True)
    process.start()
    return process


def work(running: Running, job_id: int, taken: multiprocessing.Queue) -> None:
    """A hybrid job of the victim's: it attaches, with MUNGE, and executes circuits."""
    client = DispatcherClient(running.config.socket, identity=running.identity, timeout_s=30.0)
    step = DispatcherSession(client, job_id, 0, say=lambda _: None)
    with client, closing(step):
        for _ in range(STEPS):
            began = time.perf_counter()
            assert step.execute(BELL, 10, raw_data=False).shots_done == 10
            taken.put(time.perf_counter() - began)


def work_by_lane(running: Running, job_id: int, taken: multiprocessing.Queue) -> None:
    """The same, and it must be given its lane."""
    client = DispatcherClient(running.config.socket, identity=running.identity, timeout_s=30.0)
    step = DispatcherSession(client, job_id, 0, say=lambda _: None, lanes=True)
    with client, closing(step):
        until(lambda: step.execute(BELL, 10, raw_data=False) and step.has_lane)
        taken.put("has its lane")


@pytest.mark.parametrize("attack", [floods.silence, floods.bad_credentials])
def test_a_job_has_its_lane_while_another_user_attacks_the_dispatcher(
    running: Running, attack: Callable[[str], None]
) -> None:
    attackers = [as_user(ATTACKER, floods.again_and_again, running.config.socket, attack) for _ in range(2)]
    try:
        source = "def execute(qi): pass\ndef finalize(results): return {}"
        assert running.ask(hybrid_job(1, source, uid=VICTIM)) == Admitted()
        taken: multiprocessing.Queue = _fork.Queue()
        with in_job(1):
            victim = as_user(VICTIM, work_by_lane, running, 1, taken)
            assert taken.get(timeout=60) == "has its lane"
            victim.join(30)
    finally:
        for attacker in attackers:
            attacker.kill()
            attacker.join()


@pytest.mark.parametrize(
    "attack", [*floods.DISPATCHER, None], ids=lambda attack: attack.__name__ if attack else "all at once"
)
def test_a_job_goes_on_while_another_user_does_all_they_can(
    running: Running, attack: Callable[[str], None] | None
) -> None:
    path = running.config.socket
    attackers = [
        as_user(ATTACKER, floods.again_and_again, path, one)
        for one in (floods.DISPATCHER if attack is None else [attack])
    ]
    try:
        assert (
            running.ask(hybrid_job(1, "def execute(qi): pass\ndef finalize(results): return {}", uid=VICTIM))
            == Admitted()
        )
        taken: multiprocessing.Queue = _fork.Queue()
        with in_job(1):
            victim = as_user(VICTIM, work, running, 1, taken)
            times = sorted(taken.get(timeout=60) for _ in range(STEPS))
            victim.join(30)
        assert victim.exitcode == 0
        assert running.process.poll() is None
        most = peak_memory_mb(running.process.pid)
        print(
            f"\n{attack.__name__ if attack else 'all'}: step median {times[STEPS // 2] * 1e3:.2f} ms, "
            f"worst {times[-1] * 1e3:.0f} ms; dispatcher {most} MB",
            file=sys.stderr,
        )
        assert most < MEMORY_MB
    finally:
        for attacker in attackers:
            attacker.kill()
            attacker.join()
    assert running.status().ready


# --- where warm runtimes are handed out ----------------------------------------------------------------

DAEMON = 1  # another user that every host has


@pytest.mark.parametrize("attack", floods.RUNTIMES)
def test_a_job_has_a_warm_runtime_while_another_user_is_where_they_are_handed_out(
    attack: Callable[[str], None],
) -> None:
    with warm_service("always") as folder:
        warm(folder)
        path = str(folder / "warm.sock")
        attackers = [as_user(DAEMON, floods.again_and_again, path, attack) for _ in range(2)]
        try:
            for _ in range(5):
                done = started_by(folder)
                assert done.returncode == 0, done.stderr
                assert done.stderr == ""  # it would say that it has to start one itself
        finally:
            for attacker in attackers:
                attacker.kill()
                attacker.join()
