from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from qslurm.dispatcher.credentials import Munge, OwnFolder
from qslurm.errors import ConfigError, PermissionDeniedError, UnreachableError
from tests.unit.dispatcher.running import Running, circuit_job
from tests.unit.waiting import until

MUNGED = shutil.which("munged", path="/usr/sbin:/usr/bin:/sbin")


def test_a_folder_that_others_can_enter_proves_nothing(home: Path) -> None:
    assert OwnFolder(home).verify(b"", b"") == os.getuid()
    home.chmod(0o755)
    with pytest.raises(ConfigError):
        OwnFolder(home)


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
from qslurm.dispatcher.credentials import Munge
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
from qslurm.dispatcher.client import DispatcherClient
from qslurm.dispatcher.config import DispatcherConfig
from qslurm.dispatcher.messages import Finish
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
        stranger = step_as(65532, running, open_python, open_checkout)
        assert stranger[0] == 1
        assert "another user's" in stranger[2]
        status, out, err = step_as(65533, running, open_python, open_checkout)
        assert (status, err) == (0, "")
        assert out.startswith(
            "denied: Only this platform's operators may do that, not the user with uid 65533."
        )
        assert out.endswith("64 shots\n")
