"""Who submits while C2 is away hears in time that the agent has the job, and that C2 will have it."""

from __future__ import annotations

import base64
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qslurm.c1.config.center_config import load_config
from qslurm.c1.connection.center_connection import open_connection
from qslurm.c1.submission import sending
from qslurm.cli.submission_report import outbox_timeout
from qslurm.errors import KeptError
from qslurm.payload.comment import Comment
from qslurm.payload.spec import JobSpec
from tests.unit.c2.dispatcher.running import BELL, ROOT
from tests.unit.payloads import payload_for
from tests.unit.waiting import until


def token() -> str:
    parts = ({"alg": "HS256"}, {"exp": int(time.time()) + 9999, "sun": "center_a"})
    words = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts]
    return ".".join([*words, "c2ln"])


@pytest.fixture
def users(home: Path) -> Iterator[Path]:
    """The users' configuration, by which they come to an agent whose C2 takes no connection."""
    (home / "token").write_text(token())
    (home / "token").chmod(0o600)
    (home / "state").mkdir(0o700)
    (home / "agent.toml").write_text(
        f'[c2]\nurl = "http://127.0.0.1:9"\nuser = "center_a"\ntoken_file = "{home}/token"\n'
        f'[agent]\nsocket = "{home}/s"\nstate = "{home}/state"\n'
    )
    (home / "users.toml").write_text(f'[agent]\nsocket = "{home}/s"\n')
    agent = subprocess.Popen(
        [sys.executable, "-m", "qslurm", "agent", "serve"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "QSLURM_CONFIG": str(home / "agent.toml")},
        stderr=subprocess.DEVNULL,
    )
    until(lambda: (home / "s").exists() or agent.poll() is not None)
    yield home / "users.toml"
    agent.terminate()
    agent.wait(60)


def test_who_is_patient_no_longer_is_told_that_the_job_is_safe(users: Path, tmp_path: Path) -> None:
    config = load_config(environ={"QSLURM_CONFIG": str(users), "HOME": str(tmp_path)})
    (tmp_path / "bell.cq").write_text(BELL)
    payload = payload_for(
        config, JobSpec(file=tmp_path / "bell.cq", source=BELL, kind="circuit", backend="qx"), {}
    )
    key = Comment.parse(payload["job"]["comment"]).key
    center = open_connection(config, say=lambda _: None)
    try:
        center.set_outbox_timeout(1.0)
        with pytest.raises(KeptError, match="keeps the job and submits it when C2 answers") as kept:
            sending.send(center, payload)
        assert (kept.value.exit_code, key in kept.value.hint) == (5, True)
        found = center.slurm.find_by_key(key)
        assert found is not None
        assert (found.job_id, found.state) == (0, "PENDING")
    finally:
        center.close()


@pytest.mark.parametrize(
    ("wait", "timeout_s", "seconds"),
    [(False, None, 120.0), (True, None, math.inf), (True, 7.0, 7.0)],
)
def test_a_command_is_as_patient_as_it_was_asked_to_be(
    wait: bool, timeout_s: float | None, seconds: float
) -> None:
    assert outbox_timeout(wait=wait, timeout_s=timeout_s) == seconds
