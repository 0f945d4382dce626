"""Which jobs a list is to have."""

from __future__ import annotations

from qslurm.cli.choosing import chooser, states_in
from qslurm.slurmrest import JobInfo


def job(user: str) -> JobInfo:
    comment = f"qslurm key=0123456789 kind=circuit backend=qx origin=slurm:snellius:7:{user}"
    return JobInfo(job_id=1, name="bell", state="PENDING", comment=comment)


def test_jobs_are_chosen_by_who_has_submitted_them() -> None:
    chosen = chooser(None, None, False, "ann, bob")
    assert [chosen(job(user)) for user in ("ann", "bob", "eve")] == [True, True, False]
    assert chooser(None, None, False)(job("eve"))


def test_states_are_named_as_squeue_prints_them() -> None:
    assert states_in("pd,R,CANCELLED") == {"PENDING", "RUNNING", "CANCELLED"}
    assert "TIMEOUT" in states_in("all")
