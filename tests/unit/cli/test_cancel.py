"""`qslurm cancel` by name and submitter, on several platforms."""

from __future__ import annotations

import json

import msgspec
import pytest

from qslurm.cli.app import run
from qslurm.errors import UnreachableError
from tests.unit.cli.two_platforms import Platform


@pytest.fixture
def of_ann(world):
    comment = "qslurm key=0123456789 kind=circuit backend=qx origin=slurm:snellius:7:ann"
    for platform in world.values():
        platform.known = {
            one.job_id: msgspec.structs.replace(one, comment=comment) for one in platform.known.values()
        }
    return world


def test_jobs_are_cancelled_by_name_wherever_they_are(of_ann, capsys):
    assert run(["cancel", "--submitter", "ann", "-n", "job77", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "jobs": [{"job_id": 77, "id": "tuna:77", "cancelled": True, "warnings": []}]
    }
    assert said.err == "Cancelled 1 of 1 jobs.\n"
    assert run(["cancel", "-u", "ann", "12", "tuna:12"]) == 0
    assert (of_ann["c2"].cancelled, of_ann["tuna"].cancelled) == ([12], [77, 12])


def test_only_ones_own_jobs_are_cancelled_unless_somebody_is_named(of_ann, capsys):
    assert run(["cancel", "-n", "job12"]) == 0
    assert capsys.readouterr().err == "No pending or running job matches.\n"
    assert of_ann["c2"].cancelled == []


def test_a_platform_that_is_away_keeps_no_other_from_cancelling(of_ann, capsys):
    of_ann["tuna"] = Platform(away=UnreachableError("tuna's C2 does not answer."))
    assert run(["cancel", "-u", "ann", "-t", "PD"]) == 5
    said = capsys.readouterr().err
    assert said == "qslurm: tuna: tuna's C2 does not answer.\nCancelled 2 of 2 jobs.\n"
    assert of_ann["c2"].cancelled == [12, 13]


def test_cancel_wants_to_know_which(world, capsys):
    assert run(["cancel"]) == 2
    assert "No job given" in capsys.readouterr().err
    assert run(["cancel", "--me", "-t", "PENDIN"]) == 2
    assert "--state" in capsys.readouterr().err
