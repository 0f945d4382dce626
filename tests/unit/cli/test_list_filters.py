"""Which jobs a list is to have."""

from __future__ import annotations

import os
import pwd

import pytest

from qslurm.c1.origin import of_process
from qslurm.cli.app import run
from qslurm.cli.list_filters import job_filter, states_in, submitter
from qslurm.slurm.job_info import JobInfo


def job(user: str) -> JobInfo:
    comment = f"qslurm key=0123456789 kind=circuit backend=qx origin=slurm:snellius:7:{user}"
    return JobInfo(job_id=1, name="bell", state="PENDING", comment=comment)


def test_jobs_are_chosen_by_who_has_submitted_them() -> None:
    chosen = job_filter(None, None, False, "ann, bob")
    assert [chosen(job(user)) for user in ("ann", "bob", "eve")] == [True, True, False]
    assert job_filter(None, None, False)(job("eve"))


@pytest.mark.parametrize("name", ["DOMAIN\\ann", "Ann de Vries", "ann@example.org", "jürgen", "a" * 255])
def test_my_jobs_are_found_whatever_i_am_called(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", name)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    mine = of_process(os.environ).format()
    mine = JobInfo(job_id=1, name="bell", state="PENDING", comment=f"qslurm key=0123456789 origin={mine}")
    chosen = job_filter(None, None, True)
    assert chosen(mine)
    assert not chosen(job("eve"))
    assert submitter(mine) == name
    assert job_filter(None, None, False, f"eve, {name}")(mine)


def test_my_jobs_are_also_those_of_the_name_that_the_system_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The center's agent writes that, whatever a shell or a batch system calls its user."""
    monkeypatch.setenv("USER", "DOMAIN\\ann")
    assert job_filter(None, None, True)(job(pwd.getpwuid(os.getuid()).pw_name))


@pytest.mark.parametrize(
    "words", ["cancel -t", "cancel -u", "queue -t", "queue -u", "history -s", "usage -S"]
)
def test_an_empty_choice_chooses_not_everything(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as of a variable that is not set: `qslurm cancel -t "$state"` would cancel all."""
    assert run([*words.split(), ""]) == 2
    assert "Unexpected error" not in capsys.readouterr().err


def test_states_are_named_as_squeue_prints_them() -> None:
    assert states_in("pd,R,CANCELLED") == {"PENDING", "RUNNING", "CANCELLED"}
    assert "TIMEOUT" in states_in("all")
