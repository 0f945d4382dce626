"""`qslurm doctor` on a classical node: warm runtimes, and whether user code can be confined."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from qslurm.c2.config import C2Config
from qslurm.doctor.finding import Check, Finding, fail, ok, warn
from qslurm.runtimes.warm.status import ask_service

PATIENCE_S = 2.0
NEEDED_LINUX = (5, 12)
"""Since then a whole tree of mounts can be made read-only at once."""


def node_checks(config: C2Config) -> dict[str, Check]:
    """What is looked at on each node where jobs run."""
    return {
        "runtimes": partial(_service, config),
        "confinement": partial(_walls, config),
    }


def _service(config: C2Config) -> Iterator[Finding]:
    settings = config.runtimes
    if not settings.warm:
        yield ok("runtimes", "none are kept warm, as configured")
        return
    status = ask_service(settings.socket, patience_s=PATIENCE_S)
    if status is None and Path(settings.socket).exists():  # it listened there, and was not told to end
        do = "systemctl status qslurm-runtimes; jobs start slowly until it is back."
        yield fail("runtimes", f"the service does not answer at {settings.socket}", do)
        return
    if status is None:
        do = "systemctl enable --now qslurm-runtimes, on each node where jobs run"
        yield warn("runtimes", "are not kept warm on this host: jobs start slowly", do)
        return
    yield ok("runtimes", f"{status.ready} of {status.wanted} wait, {status.given} were given to jobs")
    if settings.confine != "never" and not status.confined:
        state = fail if settings.confine == "always" else warn
        yield state(
            "runtimes",
            "warm runtimes are not confined on this host",
            "journalctl -u qslurm-runtimes says why.",
        )


def _walls(config: C2Config) -> Iterator[Finding]:
    settings = config.runtimes
    if settings.confine == "never":
        yield warn("confinement", "is off: jobs see the whole node", 'Set confine = "auto" in [runtimes].')
        return
    missing = fail if settings.confine == "always" else warn
    version = tuple(int(word) for word in platform.release().split("-")[0].split(".")[:2])
    if version < NEEDED_LINUX:
        yield missing(
            "confinement",
            f"Linux {platform.release()} can't confine warm runtimes",
            "5.12 or newer is needed.",
        )
    if Path("/proc/sys/user/max_user_namespaces").read_text().strip() == "0":
        do = "sysctl user.max_user_namespaces=10000"
        yield missing(
            "confinement", "user namespaces are off: a job's processes can't be counted for it alone", do
        )
    if not _bubblewrap_works():
        do = "Install bubblewrap, and let users make namespaces (kernel.unprivileged_userns_clone, AppArmor)."
        yield missing(
            "confinement",
            "a job that starts without the service is not confined: bubblewrap does not work",
            do,
        )
    else:
        yield ok("confinement", "namespaces and bubblewrap work")


def _bubblewrap_works() -> bool:
    program = shutil.which("bwrap", path="/usr/bin:/usr/local/bin")
    if program is None:
        return False
    command = [
        program,
        "--unshare-user",
        "--unshare-pid",
        "--unshare-net",
        "--ro-bind",
        "/",
        "/",
        "/bin/true",
    ]
    user = 65534 if os.geteuid() == 0 else None  # what root can says nothing of jobs' users
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
