"""Tests whether this user can confine a job on this host: `python -m qslurm.runtimes.classical.probe`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NoReturn

from qslurm.errors import ConfigError

NOBODY = 65534
PATIENCE_S = 10.0


def reason_not_confinable(user: int | None = None, *, patience_s: float = PATIENCE_S) -> str:
    """Why jobs cannot be confined on this host, as root (for the service) or as a user; "" if they can.

    Tested in a process of its own, by the configuration that QSLURM_C2_CONFIG names. Raises TimeoutError after
    `patience_s`: the host is busy, and nothing else is known of it.
    """
    try:
        result = subprocess.run(
            [sys.executable, "-I", "-m", __spec__.name],
            capture_output=True, text=True, timeout=patience_s, check=False, cwd="/",
            user=user, group=user, extra_groups=None if user is None else [],
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"not tested within {patience_s:g} s") from None
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return "" if result.returncode == 0 else result.stderr.strip()[-500:] or f"exit code {result.returncode}"


def main() -> NoReturn:
    """Make a runtime that gets no job."""
    from qslurm.c2.config.file import load_c2_config
    from qslurm.runtimes.classical.cold import start_ready_runtime
    from qslurm.runtimes.classical.confinement import plan_of

    try:
        start_ready_runtime(plan_of(load_c2_config(), rootless=os.geteuid() != 0), lambda _: 0).close()
    except (OSError, ConfigError) as error:
        raise SystemExit(str(error)) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main()
