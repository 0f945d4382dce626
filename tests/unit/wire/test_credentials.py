from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from qslurm.errors import PermissionDeniedError, UnreachableError
from qslurm.protocol.messages import (
    Attach,
    Attached,
    Attend,
    Await,
    Conclude,
    Done,
    Execute,
    Finish,
    Message,
    Refused,
)
from qslurm.wire.credentials import Munge
from tests.unit.c2.dispatcher.running import BELL, Running, circuit_job, hybrid_job, in_job
from tests.unit.waiting import until

Answer = TypeVar("Answer")

_fork = multiprocessing.get_context("fork")

MUNGED = shutil.which("munged", path="/usr/sbin:/usr/bin:/sbin")


@pytest.fixture
def munge(home: Path) -> Iterator[Munge]:
    """A munged with a key of its own, run as this user."""
    if MUNGED is None:
        pytest.skip("munged is not installed")
    (home / "key").write_bytes(os.urandom(128))
    (home / "key").chmod(0o600)
    home.chmod(0o711)  # munged wants its socket's folder open to all
    process = subprocess.Popen(
        [
            MUNGED, "--foreground", "--force", f"--socket={home}/s", f"--key-file={home}/key",
            f"--pid-file={home}/pid", f"--seed-file={home}/seed", f"--log-file={home}/log",
        ],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: (home / "s").exists() or process.poll() is not None)
    if process.poll() is not None:
        pytest.skip("munged does not run here")
    yield Munge(f"{home}/s")
    process.kill()  # a SIGTERM between two of its connections it may never notice
    process.wait()


def test_a_credential_proves_who_made_it(munge: Munge) -> None:
    assert munge.verify(munge.sign(b"body"), b"body") == os.getuid()


def test_a_credential_is_good_once_and_for_its_message_only(munge: Munge) -> None:
    credential = munge.sign(b"body")
    with pytest.raises(PermissionDeniedError, match="another message"):
        munge.verify(credential, b"another body")
    with pytest.raises(PermissionDeniedError):
        munge.verify(credential, b"body")


@pytest.mark.parametrize("rubbish", [b"", b"MUNGE:", b"MUNGE:AwQDAAD:", b"\0\xff", b"--help"])
def test_rubbish_is_no_credential(munge: Munge, rubbish: bytes) -> None:
    with pytest.raises(PermissionDeniedError):
        munge.verify(rubbish, b"body")


_SIGN = """
import sys
sys.path.insert(0, sys.argv[1])
from qslurm.wire.credentials import Munge
sys.stdout.buffer.write(Munge(sys.argv[2]).sign(b"body"))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_users_credential_says_so(
    munge: Munge, home: Path, open_checkout: Path, open_python: Path
) -> None:
    done = subprocess.run(
        [open_python, "-B", "-c", _SIGN, open_checkout, f"{home}/s"],
        user=65533, group=65533, extra_groups=[], capture_output=True, timeout=20, check=True,
    )  # fmt: skip
    assert munge.verify(done.stdout, b"body") == 65533


def test_no_munged_is_said_in_a_sentence(home: Path) -> None:
    with pytest.raises(UnreachableError, match="munge"):
        Munge(f"{home}/none").sign(b"body")


_STEP = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import msgspec
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.c2.config.dispatcher_section import DispatcherConfig
from qslurm.protocol.messages import Finish
from qslurm.errors import PermissionDeniedError
from qslurm.runtimes.classical.step import run_step
config = msgspec.json.decode(sys.argv[2], type=DispatcherConfig)
with DispatcherClient(config.socket, munge_socket=config.munge_socket) as client:
    try:
        client.ask(Finish(job_id=1, restart=0, state="CANCELLED"))
    except PermissionDeniedError as error:
        print("denied:", error.message)
sys.exit(run_step(Path("job.sh"), config))
"""


def step_as(uid: int, running: Running, python: Path, checkout: Path) -> tuple[int, str, str]:
    """A job step of another user, who also tries to cancel the job as if he were Slurm."""
    config = msgspec.json.encode(running.config).decode()
    done = subprocess.run(
        [python, "-B", "-c", _STEP, checkout, config],
        user=uid, group=uid, extra_groups=[], capture_output=True, text=True, timeout=40, check=False,
        env={"SLURM_JOB_ID": "1", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_a_step_does_its_own_users_work_and_nothing_else(
    munge: Munge, home: Path, open_checkout: Path, open_python: Path
) -> None:
    with Running(home, munge_socket=f"{home}/s") as running:
        running.ready().ask(circuit_job(1, uid=65533, shots=64))
        with in_job(1):
            stranger = step_as(65532, running, open_python, open_checkout)
        with in_job(2):
            colleague = step_as(65533, running, open_python, open_checkout)
        outside = step_as(65533, running, open_python, open_checkout)
        assert (stranger[0], colleague[0], outside[0]) == (1, 1, 1)
        assert "belongs to another user" in stranger[2]
        assert "does not belong to job 1" in colleague[2]
        assert "does not belong to job 1" in outside[2]
        with in_job(1):
            status, out, err = step_as(65533, running, open_python, open_checkout)
        assert (status, err) == (0, "")
        assert out.startswith(
            "denied: Permission denied: uid 65533 is not a trusted user of this dispatcher."
        )
        assert out.endswith("64 shots\n")


def test_refusals_that_anybody_can_cause_fill_no_log(munge: Munge, home: Path) -> None:
    with Running(home, munge_socket=f"{home}/s") as running, running.ready().client() as client:
        for _ in range(100):
            assert isinstance(client.exchange(Attach(job_id=1, restart=0, client="")), Refused)
        lines = [line for line in running.log.read_text().splitlines() if "event=refused" in line]
        assert 0 < len(lines) <= 60


def asked(job_id: int, running: Running, question: Message, secret: bytes | None = None) -> Message:
    """What a process of a job is answered, with a session's secret or without."""

    def ask() -> Message:
        with running.client() as client:
            return client.exchange(question, secret=secret)

    return in_process_of(job_id, ask)


def in_process_of(job_id: int, work: Callable[[], Answer]) -> Answer:
    found = _fork.SimpleQueue()
    with in_job(job_id):
        process = _fork.Process(target=lambda: found.put(work()))
        process.start()
        answer: Answer = found.get()
        process.join()
    return answer


@pytest.mark.skipif(os.getuid() != 0, reason="only root's processes count")
def test_a_secret_is_worth_nothing_in_another_job(munge: Munge, home: Path) -> None:
    source = "def execute(qi): pass\ndef finalize(m): return {}\n"
    with Running(home, munge_socket=f"{home}/s") as running:
        running.ready().ask(hybrid_job(1, source, uid=os.getuid()))
        attached = asked(1, running, Attach(job_id=1, restart=0, client="me"))
        assert isinstance(attached, Attached)
        forged = Conclude(task=attached.task, final_result='{"energy": -999}')
        questions = [
            forged,
            Attend(task=attached.task),
            Await(task=attached.task, seq=0),
            Execute(task=attached.task, seq=0, circuit=BELL, shots=1, lane=True),
        ]
        for question in questions:
            answer = asked(2, running, question, attached.secret)
            assert isinstance(answer, Refused)
            assert answer.kind == "permission"
        own = Conclude(task=attached.task, final_result='{"energy": -1}')
        assert asked(1, running, own, attached.secret) == Done()
        running.ask(Finish(job_id=1, restart=0, state="COMPLETED"))
        after = asked(1, running, Attach(job_id=1, restart=0, client="me"))
        assert isinstance(after, Attached)
        assert (after.state, after.secret, after.envelope, after.final_result) == (
            "finished",
            b"",
            None,
            None,
        )
        task = running.reader().task("a", 1)
        assert task is not None
        assert running.final_result(task) == {"energy": -1}
