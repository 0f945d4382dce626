"""Checks the disks of C2's services, and the integrity of the store."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from qslurm.c2.config.file import C2Config
from qslurm.doctor.daemons import slurm_of
from qslurm.doctor.findings import Finding, fail, ok, warn
from qslurm.errors import QslurmError
from qslurm.system.sqlite_damage import check

FULL_BYTES = 16 * 1024 * 1024
"""Free bytes below which a disk counts as full."""

LOW = 0.05
CHECK_S = 1.5


def disks(config: C2Config) -> Iterator[Finding]:
    """Check that each disk used by our services or slurmctld is writable and has space."""
    seen: set[int] = set()
    for folder in _folders(config):
        try:
            device = folder.stat().st_dev
        except FileNotFoundError:
            yield fail("disk", f"{folder} is missing", "Create it as in deploy/README.md, or mount it.")
            continue
        if device not in seen:
            seen.add(device)
            yield disk(folder)


def _folders(config: C2Config) -> Iterator[Path]:
    yield Path(config.dispatcher.store).parent
    yield Path(config.gate.state)
    yield Path(config.jobmanager.logs)
    if config.jobmanager.compute:
        yield Path(config.jobmanager.compute).parent
    try:
        state = slurm_of(config).settings().get("StateSaveLocation", "")
    except QslurmError:
        return  # another check reports it
    if Path(state).is_dir():
        yield Path(state)


def disk(folder: Path) -> Finding:
    """Check a directory's disk without root privileges."""
    facts = os.statvfs(folder)
    free = facts.f_bavail * facts.f_frsize
    share = facts.f_bavail / max(1, facts.f_blocks)
    if facts.f_flag & os.ST_RDONLY:
        do = f"dmesg says why; mount -o remount,rw $(findmnt -no TARGET -T {folder})"
        return fail("disk", f"the disk of {folder} is read-only", do)
    if facts.f_blocks and free < min(FULL_BYTES, LOW * facts.f_blocks * facts.f_frsize):
        return fail("disk", f"the disk of {folder} is full", f"Free space: du -xh {folder} | sort -h | tail")
    if facts.f_files and not facts.f_favail:
        return fail(
            "disk", f"the disk of {folder} has no inodes left", f"Delete files: du --inodes -x {folder}"
        )
    if share < LOW:
        return warn(
            "disk",
            f"the disk of {folder} is {1 - share:.0%} full",
            "Free space: no job starts while the disk is full.",
        )
    return ok("disk", f"of {folder}: {free / 1e9:.1f} GB free")


def store(config: C2Config) -> Iterator[Finding]:
    """Check that the store exists, is not world-writable, and is intact."""
    for path in (config.dispatcher.store, config.jobmanager.compute):
        if path:
            yield from _database(Path(path))


def _database(path: Path) -> Iterator[Finding]:
    facts = path.stat()
    if facts.st_mode & stat.S_IWOTH:
        yield fail("store", f"{path} is world-writable", f"chmod o-w {path}")
    in_full = check(path, CHECK_S)
    size = f"{facts.st_size / 1e6:.1f} MB"
    yield ok("store", f"{path}, {size}" + ("" if in_full else ", too large to check completely"))
