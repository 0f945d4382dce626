"""The demo's hands: a researcher on C1 and an operator on C2, each by the commands they would type."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed import Testbed

COMMAND_TIMEOUT_S = 120.0


class CommandFailedError(Exception):
    """A command of the demo ended with an error; the message has its words."""


def run(arguments: Sequence[str], env: Mapping[str, str], *, user: str | None = None, cwd: Path | None = None) -> str:
    """Run a command, as another user if asked, and return what it printed."""
    done = subprocess.run(
        arguments, env=dict(env), user=user, group=user and _group(user), extra_groups=_groups(user),
        cwd=cwd, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise CommandFailedError(f"`{' '.join(arguments)}` ended with {done.returncode}: {said}")
    return done.stdout


def _group(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def _groups(user: str | None) -> list[int] | None:
    if user is None:
        return None
    import os

    return os.getgrouplist(user, _group(user))


class Researcher:
    """Somebody on C1: sbatch, squeue, qslurm."""

    def __init__(self, testbed: Testbed, user: str, folder: Path) -> None:
        self._env = testbed.env_c1(user)
        self._user = user
        self.folder = folder

    def sbatch(self, script: Path) -> int:
        """Submit a script to C1; the C1 job id."""
        return int(self._run("sbatch", "--parsable", script.name).split(";")[0])

    def is_running(self, c1_job_id: int) -> bool:
        """Whether C1 still has the job in its queue."""
        listed = self._run("squeue", "--noheader", "--format=%i %T", "--states=all")
        states = dict(line.split() for line in listed.splitlines())
        return states.get(str(c1_job_id)) in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")

    def slurm_version(self) -> str:
        """C1's Slurm, as sinfo names it."""
        return self._run("sinfo", "--version").split()[-1]

    def qslurm(self, *arguments: str) -> Any:
        """A qslurm command's JSON."""
        return json.loads(self._run("qslurm", *arguments, "--json"))

    def _run(self, *arguments: str) -> str:
        return run(arguments, self._env, user=self._user, cwd=self.folder)


class Operator:
    """Somebody on C2's head node who may open and close partitions."""

    def __init__(self, testbed: Testbed) -> None:
        self._env = testbed.env_c2()

    def qslurm(self, *arguments: str) -> str:
        """A qslurm command's output."""
        return run(("qslurm", *arguments), self._env)
