"""Reading what may be no file at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from qslurm.system.bounded_read import read_bounded


def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert read_bounded(tmp_path / "file", 100) == b"x" * 100


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/urandom"])
def test_what_has_no_end_is_cut_one_byte_after_the_limit(path: str) -> None:
    assert len(read_bounded(Path(path), 1000)) == 1001


def test_a_fifo_that_nobody_writes_to_is_empty(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert read_bounded(tmp_path / "fifo", 10) == b""


def test_a_pipe_of_the_shell_is_read_to_its_end() -> None:
    reading, writing = os.pipe()

    def write() -> None:
        for _ in range(3):
            os.write(writing, b"x" * 50_000)
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert len(read_bounded(Path(f"/dev/fd/{reading}"), 1 << 20)) == 150_000
    finally:
        writer.join()
        os.close(reading)


def test_a_pipe_without_an_end_is_not_waited_for_for_ever() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(TimeoutError) as caught:
            read_bounded(Path(f"/dev/fd/{reading}"), 10, timeout_s=0.01)
        assert "pipe" in caught.value.strerror
    finally:
        os.close(reading)
        os.close(writing)
