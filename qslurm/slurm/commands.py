"""Runs Slurm's commands on C1: no shell, nothing on their standard input, and a time limit."""

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
    """What a command says, however it ends. Raises `absent` if it is not here, `late` if it has not ended in time."""
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
