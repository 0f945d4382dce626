"""Runs Slurm commands on C1, without a shell and standard input, with a time-out."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from qslurm.errors import QslurmError


def run(
    command: Sequence[str],
    *,
    limit_s: float,
    absent: QslurmError,
    late: QslurmError,
    environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command and return its result. Raises `absent` if not installed, `late` on time-out."""
    try:
        return subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise absent from error
    except subprocess.TimeoutExpired as error:
        raise late from error
