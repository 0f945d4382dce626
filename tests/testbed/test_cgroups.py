"""slurmd where /sys/fs/cgroup is a cgroup2, as on a Debian 12 that systemd has booted."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from testbed import Testbed
from testbed.layout import CHECKOUT

pytestmark = pytest.mark.slurm

MOUNT = '[ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 none /sys/fs/cgroup || exit; exec "$@"'
UNIFIED = ("unshare", "--mount", "sh", "-c", MOUNT, "sh")
"""Runs a command with a cgroup2 there, which nobody else sees."""


def unified(*command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT / "scripts" / "lib")}
    return subprocess.run(
        [*UNIFIED, *command], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_slurmd_starts_where_cgroups_are_unified_and_leaves_them_alone(other: Testbed) -> None:
    if unified("true").returncode:
        pytest.skip("no cgroup2 can be mounted here")
    up = unified(sys.executable, "-m", "testbed", "up", "--name", other.name, "--only", "slurmd-c1")
    assert up.returncode == 0, up.stderr
    assert unified("find", "/sys/fs/cgroup", "-name", "slurmstepd.scope").stdout == ""
