"""Logs lie where jobs can write, so a link there must lead nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.c2.jobmanager.logs import read_log, whole_characters
from qslurm.errors import UnknownJobError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "logs" / "center_lumi").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "logs"


def test_a_log_is_read_from_where_one_stopped(folder: Path) -> None:
    (folder / "center_lumi" / "7.out").write_text("one\ntwo\n")
    assert read_log(folder, "center_lumi", 7, 0) == (b"one\ntwo\n", 8)
    assert read_log(folder, "center_lumi", 7, 4) == (b"two\n", 8)
    assert read_log(folder, "center_lumi", 7, 99) == (b"", 8)


def test_a_long_log_comes_in_bounded_parts(folder: Path) -> None:
    (folder / "center_lumi" / "7.out").write_text("abcäöü")
    offset, parts = 0, []
    while True:
        data, next_offset = read_log(folder, "center_lumi", 7, offset, most=3)
        if next_offset == offset:
            break
        parts.append(data.decode())
        offset = next_offset
    assert "".join(parts) == "abcäöü"
    assert max(map(len, parts)) <= 3


def test_a_link_a_folder_and_a_fifo_are_no_logs(folder: Path) -> None:
    user = folder / "center_lumi"
    (user / "1.out").symlink_to(folder.parent / "secret")
    (user / "2.out").mkdir()
    os.mkfifo(user / "3.out")
    (folder / "center_evil").symlink_to(user)
    (user / "4.out").write_text("log")
    for name, job_id in (
        ("center_lumi", 1),
        ("center_lumi", 2),
        ("center_lumi", 3),
        ("center_evil", 4),
        ("none", 1),
    ):
        with pytest.raises(UnknownJobError):
            read_log(folder, name, job_id, 0)


@pytest.mark.parametrize("user", ["", ".", "..", "../logs/center_lumi", "/etc"])
def test_a_user_that_is_a_path_has_no_logs(folder: Path, user: str) -> None:
    (folder / "7.out").write_text("x")
    with pytest.raises(UnknownJobError):
        read_log(folder, user, 7, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_elses_is_no_log(folder: Path) -> None:
    path = folder / "center_lumi" / "7.out"
    path.write_text("linked here from another's folder")
    os.chown(path, 12345, -1)
    with pytest.raises(UnknownJobError):
        read_log(folder, "center_lumi", 7, 0)


@given(st.text(min_size=1), st.integers(0, 3))
def test_a_cut_character_waits_for_the_next_part(text: str, cut: int) -> None:
    data = text.encode("utf-8", "surrogatepass")
    part = data[: len(data) - cut] or data
    kept = whole_characters(part)
    assert part.startswith(kept)
    assert len(part) - len(kept) <= 3
    assert kept or not part


@given(st.binary(max_size=20))
def test_what_is_no_text_still_gets_on(data: bytes) -> None:
    kept = whole_characters(data)
    assert data.startswith(kept)
    assert bool(kept) == bool(data)
