"""A step that asks for a warm runtime: what the kernel says of it, and where its runtime has to be counted."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec

from qslurm.runtimes.classical import limits
from qslurm.runtimes.warm.child import Assignment


class Caller(msgspec.Struct):
    """A step that asks: the link to it, since when, and, once it has said, its descriptors."""

    link: socket.socket
    since: float
    pid: int
    uid: int
    job: str = ""
    fds: list[int] = []


def assignment(caller: Caller) -> Assignment:
    """What its runtime has to become; OSError or ValueError if it is not of one user, or gone."""
    lines = Path(f"/proc/{caller.pid}/status").read_text().splitlines()
    facts = {name: words.split() for name, _, words in (line.partition(":") for line in lines)}
    uids = {int(word) for word in facts["Uid"]}
    if uids != {caller.uid}:
        raise PermissionError(f"process {caller.pid} is not of uid {caller.uid} alone")
    return Assignment(
        uid=caller.uid,
        gid=int(facts["Gid"][0]),
        groups=[int(word) for word in facts["Groups"]],
        cpus=sorted(os.sched_getaffinity(caller.pid)),
        limits=limits.of_process(caller.pid),
    )


def join_cgroups(step: int, runtime: int) -> None:
    """Put the runtime where Slurm counts, limits and ends its step's processes."""
    mounts = _cgroup_mounts()
    ours = Path("/proc/self/cgroup").read_text().splitlines()
    for line in Path(f"/proc/{step}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if line not in ours and controllers in mounts:
            (mounts[controllers] / path.lstrip("/") / "cgroup.procs").write_text(str(runtime))


def _cgroup_mounts() -> dict[str, Path]:
    """Where each hierarchy is mounted, by its controllers ("" for cgroup v2)."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split()[:3]
        if kind in {"cgroup", "cgroup2"}:
            known = {"rw", "ro", "xattr", "clone_children", "noprefix"}
            names = [
                word for word in options.split(",") if word not in known and not word.startswith("release")
            ]
            found[",".join(names) if kind == "cgroup" else ""] = Path(left.split()[4])
    return found
