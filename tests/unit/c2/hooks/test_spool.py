"""The gate's folder: records come back as they were, and damage stops nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from qslurm.c2.hooks.spool import DesiredState, EndedJob, Spool, TurnedAwayJob
from qslurm.errors import QslurmError


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


def turned(job_id: int, when: float = 1.0) -> TurnedAwayJob:
    return TurnedAwayJob(job_id=job_id, restart=0, partition="p_qx", when=when, times=1, reason="offline")


def test_records_come_back_in_the_order_of_time(spool: Spool) -> None:
    for record in (turned(9, 2.0), turned(10, 1.0)):
        spool.put(record)
    assert spool.turned_away() == [turned(10, 1.0), turned(9, 2.0)]
    assert spool.turned_away_job(9) == turned(9, 2.0)
    assert spool.turned_away_job(8) is None


def test_each_start_of_a_job_has_an_end_of_its_own(spool: Spool) -> None:
    first, second = (EndedJob(job_id=7, restart=restart, when=restart) for restart in (0, 1))
    for record in (first, second, second):
        spool.put(record)
    assert spool.ended() == [first, second]
    spool.remove(first)
    spool.remove(first)
    assert spool.ended() == [second]


def test_a_damaged_record_is_set_aside_and_logged_and_the_others_are_read(spool: Spool) -> None:
    spool.put(turned(9))
    (spool.folder / "turned-away" / "8.json").write_text('{"job_id": 8')
    assert spool.turned_away() == [turned(9)]
    assert [path.name.split(".")[0] for path in (spool.folder / "unreadable").iterdir()] == ["8"]
    (line,) = (spool.folder / "hooks.log").read_text().splitlines()
    assert 'event="damaged file set aside" job=8 file=8.json' in line
    assert spool.turned_away() == [turned(9)]


def test_wishes_are_kept_for_each_partition(spool: Spool) -> None:
    first = DesiredState(state="enabled", by="olga", since=1.0)
    second = DesiredState(state="drained", by="root", since=2.0, why="fridge")
    assert spool.desired_states() == {}
    spool.set_desired_state("p_qx", first)
    spool.set_desired_state("p_spin2", second)
    assert spool.desired_states() == {"p_qx": first, "p_spin2": second}
    spool.set_desired_state("p_qx", second)
    assert spool.desired_states()["p_qx"] == second


def test_damaged_wishes_are_set_aside_and_nothing_is_wished(spool: Spool) -> None:
    (spool.folder / "wishes.json").write_text("{")
    assert spool.desired_states() == {}
    spool.set_desired_state("p_qx", DesiredState(state="enabled", by="olga", since=1.0))
    assert list(spool.desired_states()) == ["p_qx"]


def test_a_line_of_the_log_is_one_line(spool: Spool) -> None:
    spool.log("prolog", "first\nstill first", {"job": 7, "why": 'a "b" = c'}, now=0.0)
    spool.log("epilog", "second", {}, level="warning", now=1.0)
    assert (spool.folder / "hooks.log").read_text().splitlines() == [
        'time=1970-01-01T00:00:00.000Z level=info part=prolog event="first\\nstill first" job=7 why="a \\"b\\" = c"',
        "time=1970-01-01T00:00:01.000Z level=warning part=epilog event=second",
    ]


def test_a_grown_log_is_started_anew_and_the_old_one_kept(spool: Spool) -> None:
    spool.log("prolog", "long enough", {})
    spool.rotate_log(limit=10)
    assert not (spool.folder / "hooks.log").exists()
    assert "long enough" in (spool.folder / "hooks.log.1").read_text()


def test_without_a_folder_the_log_goes_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Spool(tmp_path / "none").log("prolog", "nobody listens", {})
    assert "nobody listens" in capfd.readouterr().err


def test_a_folder_that_is_missing_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(QslurmError, match="Cannot use"):
        Spool(tmp_path / "none").put(turned(1))
