from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

import pytest

from qslurm.c2.config.runtimes_section import RuntimesConfig
from qslurm.runtimes.classical.job_limits import JobUsage, exceeded_limit, limits_of, usage

NOBODY = 65534
CONFIG = RuntimesConfig(memory_mb=100, processes=10, disk_mb=50)


def test_within_all_limits_nothing_is_said() -> None:
    assert exceeded_limit(JobUsage(processes=9, memory=100_000_000, written=50_000_000), CONFIG) == ""


@pytest.mark.parametrize(
    ("use", "word"),
    [
        (JobUsage(processes=10), "10 processes at a time"),
        (JobUsage(memory=100_000_001), "100 MB of memory; 100 MB"),
        (JobUsage(written=51_000_000), "51 MB to disk; 50 MB"),
    ],
)
def test_each_limit_has_its_sentence(use: JobUsage, word: str) -> None:
    assert word in exceeded_limit(use, CONFIG)


def process(proc: Path, name: str, *, anonymous_kb: int, exact_kb: int, written: int) -> None:
    folder = proc / name
    folder.mkdir()
    (folder / "status").write_text(f"Name:\tx\nRssAnon:\t{anonymous_kb} kB\nRssShmem:\t0 kB\n")
    (folder / "smaps_rollup").write_text(f"Pss_Anon:\t{exact_kb} kB\nPss_Shmem:\t0 kB\n")
    (folder / "io").write_text(f"rchar: 1\nwrite_bytes: {written}\n")


def test_what_processes_share_is_counted_once_when_it_matters(tmp_path: Path) -> None:
    process(tmp_path, "self", anonymous_kb=0, exact_kb=0, written=5)
    process(tmp_path, "998", anonymous_kb=80, exact_kb=40, written=7)
    process(tmp_path, "999", anonymous_kb=80, exact_kb=40, written=0)
    assert usage(1_000_000, tmp_path) == JobUsage(processes=2, memory=160 * 1024, written=12)
    assert usage(1, tmp_path) == JobUsage(processes=2, memory=80 * 1024, written=12)


def test_a_process_that_ends_meanwhile_counts_for_nothing(tmp_path: Path) -> None:
    process(tmp_path, "self", anonymous_kb=0, exact_kb=0, written=0)
    (tmp_path / "999").mkdir()
    assert usage(1_000_000, tmp_path) == JobUsage(processes=1)


def test_a_process_that_has_ended_and_is_not_waited_for_counts_for_nothing() -> None:
    """Linux shows the I/O of a zombie to root only, and who watches a cold runtime is not root."""
    said, says = os.pipe()
    watcher = os.fork()
    if watcher == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os.write(says, look_at_a_zombie().encode())
        except BaseException as error:  # noqa: BLE001 - this process must not come back into pytest
            os.write(says, repr(error).encode())
        os._exit(0)
    os.close(says)
    with os.fdopen(said) as told:
        assert told.read() == "1 process, no memory, nothing written"
    os.waitpid(watcher, 0)


def look_at_a_zombie() -> str:
    with tempfile.TemporaryDirectory() as proc:
        zombie = os.fork()
        if zombie == 0:
            os._exit(0)
        os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
        Path(proc, str(zombie)).symlink_to(f"/proc/{zombie}")
        use = usage(0, Path(proc))
    return f"{use.processes} process, {use.memory or 'no'} memory, {use.written or 'nothing'} written"


def test_a_process_tells_its_limits() -> None:
    found = {number: (soft, hard) for number, soft, hard in limits_of(os.getpid())}
    for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):
        assert found[number] == resource.getrlimit(number)
