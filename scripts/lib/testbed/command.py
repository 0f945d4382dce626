"""Runs a command as a given user, with a clean environment."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from testbed.errors import TestbedError
from testbed.users import identity

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Done = subprocess.CompletedProcess[str]


def clean(**more: str) -> dict[str, str]:
    """A minimal environment: the caller's SLURM_* and SBATCH_* variables would change commands."""
    return {"PATH": PATH, "LANG": "C.UTF-8", **more}


def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    user: str = "root",
    folder: Path = Path("/"),
    timeout_s: float = 60,
    stdin: str = "",
) -> Done:
    """Run a command and return its output, whatever its exit code."""
    who = identity(user)
    return subprocess.run(
        command,
        env=dict(environment),
        cwd=folder,
        input=stdin,
        user=who.uid,
        group=who.gid,
        extra_groups=who.groups,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )


def checked(done: Done) -> str:
    """The command's output; TestbedError with its message if it failed."""
    if done.returncode:
        words = " ".join(str(word) for word in done.args)
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise TestbedError(f"`{words}` exited with code {done.returncode}: {said}")
    return done.stdout
