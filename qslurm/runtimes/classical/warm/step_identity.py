"""A step that asks for a warm runtime: what the kernel says of it, and where its runtime has to be counted."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec

from qslurm.runtimes.classical import job_limits
from qslurm.runtimes.classical.confined_process import Assignment
from qslurm.system.job_of_process import job_of
from qslurm.wire.peer import Peer


class StepProcess(msgspec.Struct, eq=False):
    """A step that asks: the link to it, since when, and, once it has said, its descriptors."""

    link: socket.socket
    since: float
    peer: Peer
    job: str = ""
    fds: list[int] = []

    @property
    def host(self) -> str:
        """Whose share of those who ask it has."""
        return f"uid {self.peer.uid}"


def assignment(caller: StepProcess) -> Assignment:
    """What its runtime has to become; OSError or ValueError if it is not of one user, or gone."""
    pid, uid = caller.peer.pid, caller.peer.uid
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    facts = {name: words.split() for name, _, words in (line.partition(":") for line in lines)}
    uids = {int(word) for word in facts["Uid"]}
    if uids != {uid}:
        raise PermissionError(f"process {pid} does not run as uid {uid} only")
    return Assignment(
        job=job_of(pid),
        uid=uid,
        gid=int(facts["Gid"][0]),
        groups=[int(word) for word in facts["Groups"]],
        cpus=sorted(os.sched_getaffinity(pid)),
        limits=job_limits.of_process(pid),
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
