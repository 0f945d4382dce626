"""A step that requests a warm runtime: its identity by the kernel, and the cgroups that its runtime joins."""

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
    """A connected step: since when, and, after its request, its descriptors."""

    link: socket.socket
    since: float
    peer: Peer
    job: str = ""
    fds: list[int] = []

    @property
    def host(self) -> str:
        """The key by which its connections are limited."""
        return f"uid {self.peer.uid}"


def assignment(step_process: StepProcess) -> Assignment:
    """The user and limits of its runtime; raises OSError or ValueError if it has several uids, or has ended."""
    pid, uid = step_process.peer.pid, step_process.peer.uid
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
        limits=job_limits.limits_of(pid),
    )


def join_cgroups(step_pid: int, runtime_pid: int) -> None:
    """Move the runtime into the cgroups in which Slurm counts, limits and ends the step's processes."""
    mounts = _cgroup_mounts()
    own_lines = Path("/proc/self/cgroup").read_text().splitlines()
    for line in Path(f"/proc/{step_pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if line not in own_lines and controllers in mounts:
            (mounts[controllers] / path.lstrip("/") / "cgroup.procs").write_text(str(runtime_pid))


def _cgroup_mounts() -> dict[str, Path]:
    """The mount point of each hierarchy, by its controllers ("" for cgroup v2)."""
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
