"""Whether this host, and this user on it, can confine a job: `python -m qslurm.runtimes.classical.probe` tries."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NoReturn

from qslurm.errors import ConfigError

NOBODY = 65534
PATIENCE_S = 10.0


def why_not(user: int | None = None, *, patience_s: float = PATIENCE_S) -> str:
    """What stands in the way of confining jobs on this host, for root's service or as a user; "" if nothing does.

    Tried in a process of its own, by the configuration that QSLURM_C2_CONFIG names. TimeoutError if that takes longer
    than `patience_s`: it says nothing of the host but that it is busy.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-m", __spec__.name],
            capture_output=True, text=True, timeout=patience_s, check=False, cwd="/",
            user=user, group=user, extra_groups=None if user is None else [],
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"not tested within {patience_s:g} s") from None
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.strip()[-500:] or f"exit code {done.returncode}"


def main() -> NoReturn:
    """Make a runtime that gets no job."""
    from qslurm.c2.config.file import load_c2_config
    from qslurm.runtimes.classical.cold import start_one
    from qslurm.runtimes.classical.confinement import plan_of

    try:
        start_one(plan_of(load_c2_config(), rootless=os.geteuid() != 0), lambda _: 0).close()
    except (OSError, ConfigError) as error:
        raise SystemExit(str(error)) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main()
