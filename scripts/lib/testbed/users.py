"""The unix users of the testbed. Missing ones are created, and stay, as those of Debian packages do."""

from __future__ import annotations

import fcntl
import grp
import pwd
import subprocess
from dataclasses import dataclass

from testbed.base import RUN
from testbed.errors import TestbedError

RESEARCHERS = ("qs_alice", "qs_bob")
"""Users of C1 who may submit: their group may read the center's token."""

RESEARCH_GROUP = "qs_snellius"
CENTERS = ("snellius", "lumi")
CENTER_USERS = tuple(f"center_{center}" for center in CENTERS)
SERVICE = "qslurm"
QUANTUM = "qslurm-quantum"
TOKENS = "qslurm-tokens"
AGENT = "qslurm-agent"
REST = "qslurm-rest"
SLURM = "slurm"
MUNGE = "munge"


@dataclass(frozen=True)
class Identity:
    """The user and groups of a process."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def identity(user: str) -> Identity:
    """The user's ids; a TestbedError if there is no such user."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise TestbedError(f"Unknown user {user!r}. Run `scripts/testbed up` to create it.") from error
    groups = os_groups(user, entry.pw_gid)
    return Identity(user, entry.pw_uid, entry.pw_gid, groups)


def os_groups(user: str, gid: int) -> tuple[int, ...]:
    """The user's supplementary groups."""
    return tuple(sorted({gid, *(group.gr_gid for group in grp.getgrall() if user in group.gr_mem)}))


def ensure() -> None:
    """Create missing users and groups; testbeds that start at the same time take turns."""
    with (RUN / "qslurm-users").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _add_missing()


def _add_missing() -> None:
    groups = {group.gr_name for group in grp.getgrall()}
    if RESEARCH_GROUP not in groups:
        _run("groupadd", "--system", RESEARCH_GROUP)
    users = {user.pw_name for user in pwd.getpwall()}
    for user in (MUNGE, SLURM, SERVICE, QUANTUM, TOKENS, AGENT, REST, *CENTER_USERS):
        if user not in users:
            _add(user, "--user-group")
    for user in RESEARCHERS:
        if user not in users:
            _add(user, "--gid", RESEARCH_GROUP)


def _add(user: str, *options: str) -> None:
    shell = "/bin/bash" if user in (*RESEARCHERS, *CENTER_USERS) else "/usr/sbin/nologin"
    _run(
        "useradd",
        "--system",
        *options,
        "--no-create-home",
        "--home-dir",
        "/nonexistent",
        "--shell",
        shell,
        user,
    )


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise TestbedError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
