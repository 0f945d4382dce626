"""From a wish to an open session, with a center that is ours and a dispatcher that is real."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from click.testing import CliRunner

from qslurm.c1.config.settings import Config
from qslurm.c1.connection.center_connection import CenterConnection
from qslurm.c1.sessions.opening import SessionOptions, batch_of, open_session
from qslurm.cli.app import qslurm, run
from qslurm.errors import (
    InvalidInputError,
    JobCancelledError,
    KeptError,
    RefusedError,
    TimedOutError,
    UnknownJobError,
)
from qslurm.payload.comment import Comment
from qslurm.payload.envelope import unpack
from qslurm.payload.spec import JobSpec
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.rest import Submitted
from tests.unit.c1.sessions.conftest import Held, Place
from tests.unit.c1.sessions.test_sessions import CIRCUIT


@dataclass
class Stage:
    """C2 as a center sees it: a job waits as often as it is asked, then it runs, then (if it shall) it ends."""

    place: Place | None = None
    waits: int = 0
    reason: str = "Priority"
    ends_as: str = ""
    doors: dict[str, Any] = field(default_factory=dict)
    cancelled: list[int] = field(default_factory=list)
    held: Held | None = None
    config: Config = field(default_factory=Config)
    prefix: str = ""
    has_job_manager: bool = False
    paused: int = 0
    patience_s: float = 0.0
    kept: bool = False

    @property
    def slurm(self) -> Stage:
        return self

    @property
    def job_manager(self) -> Stage:
        return self

    def set_outbox_timeout(self, seconds: float) -> None:
        self.patience_s = seconds

    def sessions(self) -> dict[str, Any]:
        if self.place is not None:
            return {
                "address": f"127.0.0.1:{self.place.port}",
                "certificate": self.place.certificate,
            }
        return self.doors

    def submit(self, payload: dict[str, Any]) -> Submitted:
        if self.kept:
            raise KeptError("C2 is away. The center's agent has the job on its disk.")
        envelope = unpack(payload["script"])
        assert envelope is not None
        assert envelope.kind == "session"
        if self.place is not None:
            self.held = self.place.hold(digest=envelope.session)
        return Submitted(4711, [], "")

    def job(self, job_id: int) -> JobInfo:
        state = "PENDING" if self.waits > 0 else (self.ends_as or "RUNNING")
        self.waits -= 1
        return JobInfo(job_id=job_id, name="s", state=state, reason=self.reason, partition="p_qx", priority=7)

    def find_by_key(self, key: str) -> None:
        return None  # C2 does not have it

    def jobs(self) -> list[JobInfo]:
        other = JobInfo(job_id=1, name="", state="PENDING", reason="Priority", partition="p_qx", priority=9)
        return [other, JobInfo(job_id=4711, name="s", state="PENDING", partition="p_qx", priority=7)]

    def cancel(self, job_id: int) -> list[str]:
        self.cancelled.append(job_id)
        return []

    def wait_for_change(self, seconds: float, job: JobInfo | None) -> None:
        assert seconds <= 5.0
        self.paused += 1


def wish(*, idle_limit_s: float = 60.0, wait_limit_s: float | None = None, **asked: Any) -> SessionOptions:
    return SessionOptions(JobSpec(source="", kind="hybrid", **asked), idle_limit_s, wait_limit_s)


def open_on(stage: Stage, asked: SessionOptions | None = None) -> tuple[Any, list[str]]:
    said: list[str] = []
    opened = open_session(cast(CenterConnection, stage), asked or wish(backend="qx"), {}, said.append)
    return opened, said


def test_a_session_is_a_job_that_is_waited_for_and_entered(place: Place) -> None:
    place.let_go()
    stage = Stage(place, waits=3)
    opened, said = open_on(stage)
    assert said[0] == "Submitted job 4711 to C2 to hold the session."
    assert said[1].startswith("Waiting: ")
    assert "queue position 2" in said[1]
    assert opened.client.execute(CIRCUIT, 2, False).counts == {"01": 2}
    opened.client.conclude()
    opened.client.close()
    assert stage.cancelled == []


def test_a_limit_counts_all_that_it_takes_to_begin() -> None:
    """A job that runs and is put back in the queue, again and again, begins no session."""
    stage = Stage(doors={"address": "127.0.0.1:1", "certificate": "x"})
    turns = 0

    def job(job_id: int) -> JobInfo:
        nonlocal turns
        turns += 1
        state = "RUNNING" if turns % 2 else "PENDING"
        return JobInfo(job_id=job_id, name="s", state=state, partition="p_qx", priority=7)

    stage.job = job  # type: ignore[method-assign]
    with pytest.raises(TimedOutError, match="has not started after"):
        open_on(stage, wish(backend="qx", wait_limit_s=0.3))
    assert turns > 2
    assert stage.cancelled == [4711]
    assert 0.0 < stage.patience_s <= 0.3


def test_a_limit_ends_the_wait_for_a_c2_that_is_away_while_an_agent_keeps_the_job() -> None:
    stage = Stage(kept=True, doors={"address": "127.0.0.1:1", "certificate": "x"})
    with pytest.raises(TimedOutError, match="C2 is away"):
        open_on(stage, wish(backend="qx", wait_limit_s=1.0))


def test_a_wait_that_lasts_too_long_ends_and_leaves_no_job() -> None:
    stage = Stage(waits=10**9, doors={"address": "127.0.0.1:1", "certificate": "x"})
    with pytest.raises(TimedOutError, match="has not started"):
        open_on(stage, wish(backend="qx", wait_limit_s=1e-9))
    assert stage.cancelled == [4711]


def test_who_is_interrupted_when_told_of_the_job_leaves_none() -> None:
    def say(_: str) -> None:
        raise KeyboardInterrupt

    stage = Stage(doors={"address": "127.0.0.1:1", "certificate": "x"})
    with pytest.raises(KeyboardInterrupt):
        open_session(cast(CenterConnection, stage), wish(backend="qx"), {}, say)
    assert stage.cancelled == [4711]


@pytest.mark.parametrize("taken", [True, False])
def test_who_is_interrupted_while_it_is_submitted_leaves_none(taken: bool) -> None:
    keys: list[str] = []

    class Interrupted(Stage):
        def submit(self, payload: dict[str, Any]) -> Submitted:
            keys.append(Comment.parse(payload["job"]["comment"]).key)
            raise KeyboardInterrupt

        def find_by_key(self, key: str) -> JobInfo | None:
            assert [key] == keys
            return JobInfo(job_id=4711, name="s", state="PENDING") if taken else None

    stage = Interrupted(doors={"address": "127.0.0.1:1", "certificate": "x"})
    with pytest.raises(KeyboardInterrupt):
        open_on(stage)
    assert stage.cancelled == ([4711] if taken else [])


def test_a_job_that_is_cancelled_meanwhile_is_no_session() -> None:
    stage = Stage(waits=2, ends_as="CANCELLED", doors={"address": "127.0.0.1:1", "certificate": "x"})
    with pytest.raises(JobCancelledError):
        open_on(stage)


def test_a_c2_without_sessions_is_told_before_anything_is_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(doors={"address": "", "certificate": ""})
    with pytest.raises(RefusedError, match="does not offer sessions"):
        open_on(stage)

    def older() -> dict[str, Any]:
        raise UnknownJobError("Not found.")

    monkeypatch.setattr(stage, "sessions", older)
    with pytest.raises(RefusedError, match="does not offer sessions"):
        open_on(stage)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (wish(), "No backend given"),
        (wish(backend="qx", idle_limit_s=0), "Invalid idle_limit_s 0"),
        (wish(backend="qx", idle_limit_s=math.nan), "idle_limit_s"),
        (wish(backend="qx", idle_limit_s=math.inf), "idle_limit_s"),
        (wish(backend="qx", wait_limit_s=-1), "wait_limit_s"),
        (wish(backend="qx", time_limit="soon"), "soon"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(asked: SessionOptions, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        batch_of(Config(), asked, "0" * 64, {})


def test_what_travels_is_a_digest_and_no_secret() -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    asked = wish(backend="qx", idle_limit_s=30, seed=1, array="0-3", hold=True, variables={"a": "1"}, shots=5)
    (package,) = batch_of(Config(), asked, digest, {"SLURM_JOB_ID": "5"}).packages
    payload = package.payload
    assert not {"array", "hold"} & payload["job"].keys(), "they are for a file that runs here"
    envelope = unpack(payload["script"])
    assert envelope is not None
    assert (envelope.session, envelope.idle_limit_s, envelope.source) == (digest, 30, "")
    assert payload["job"]["partition"] == "p_qx"
    assert "kind=session" in payload["job"]["comment"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "FILE.py"),
        (["--backend", "qx", "nowhere.py"], "nowhere.py"),
        (["--backend", "qx", "--idle-limit", "nan", "x.py"], "nan"),
        (["--backend", "qx", "--idle-limit", "0", "x.py"], "0"),
        (["--backend", "qx", "--shots", "5", "--", "true"], "hybrid FILE.py"),
        (["--backend", "qx", "--set", "a", "x.py"], "NAME=VALUE"),
        (["--backend", "qx", "plain.py"], "qslurm session … -- python"),
    ],
)
def test_what_is_typed_wrong_is_said_before_anything_is_sent(
    words: list[str],
    said: str,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.py").write_text("print('no hybrid file')\n")
    assert run(["session", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_help_has_an_example() -> None:
    shown = CliRunner().invoke(qslurm, ["session", "--help"]).output
    assert "qslurm session --backend spin2" in shown
