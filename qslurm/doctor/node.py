"""`qslurm doctor` on a compute node: warm runtimes, and confinement of user code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from qslurm.c2.config.file import C2Config
from qslurm.doctor.findings import PATIENCE_S, Check, Finding, fail, ok, warn
from qslurm.runtimes.classical.probe import NOBODY, reason_not_confinable
from qslurm.runtimes.classical.warm.warm_status import query_warm_status


def node_checks(config: C2Config, *, patience_s: float = PATIENCE_S) -> dict[str, Check]:
    """The checks of a compute node."""
    return {
        "runtimes": partial(_service, config),
        "confinement": partial(_confinement, config, patience_s),
        "confinement of warm runtimes": partial(_warm_confinement, config, patience_s),
        "tracing": _tracing,
    }


def _service(config: C2Config) -> Iterator[Finding]:
    settings = config.runtimes
    if not settings.warm:
        yield ok("runtimes", "are disabled in the configuration")
        return
    status = query_warm_status(settings.socket, patience_s=PATIENCE_S)
    if (
        status is None and Path(settings.socket).exists()
    ):  # a socket that was not removed: it did not stop normally
        do = "systemctl status qslurm-runtimes; jobs start slowly until it runs again."
        yield fail("runtimes", f"the service does not answer at {settings.socket}", do)
        return
    if status is None:
        do = "systemctl enable --now qslurm-runtimes, on each compute node"
        yield warn("runtimes", "are not running on this host: jobs start slowly", do)
        return
    counts = f"{status.ready} of {status.wanted} ready, {status.given} used by jobs"
    yield (
        ok("runtimes", counts) if status.ready else fail("runtimes", counts, "journalctl -u qslurm-runtimes")
    )


def _confinement(config: C2Config, patience_s: float) -> Iterator[Finding]:
    """As a user: create the namespaces of a step without a warm runtime."""
    if config.runtimes.confine == "never":
        yield warn(
            "confinement", "is off: jobs can access the whole node", 'Set confine = "always" in [runtimes].'
        )
        return
    do = (
        "sysctl user.max_user_namespaces=10000; sysctl kernel.unprivileged_userns_clone=1, and "
        "kernel.apparmor_restrict_unprivileged_userns=0, where these settings exist."
    )
    try:
        why = reason_not_confinable(NOBODY if os.geteuid() == 0 else None, patience_s=patience_s)
    except TimeoutError as error:
        yield _not_tested("confinement", error)
        return
    if why:
        what = f"users cannot create namespaces: a job without a warm runtime fails on this node ({why})"
        yield fail("confinement", what, do)
    else:
        yield ok("confinement", "users can create namespaces")


def _warm_confinement(config: C2Config, patience_s: float) -> Iterator[Finding]:
    """As root: create the namespaces of a warm runtime."""
    if os.geteuid() != 0 or not config.runtimes.warm:
        return
    try:
        why = reason_not_confinable(patience_s=patience_s)
    except TimeoutError as error:
        yield _not_tested("confinement of warm runtimes", error)
        return
    if why:
        do = "Allow root to create namespaces: Linux 5.12 or newer, and no container that forbids it."
        yield fail("confinement of warm runtimes", f"root cannot create namespaces ({why})", do)
    else:
        yield ok("confinement of warm runtimes", "root can create namespaces")


def _not_tested(name: str, error: TimeoutError) -> Finding:
    """A warning: creating a runtime takes CPU time, so a time-out on a busy node is not a failure."""
    return warn(name, f"{error}: this node is busy", "Run qslurm doctor again when the load is lower.")


def _tracing() -> Iterator[Finding]:
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if scope.exists() and scope.read_text().strip() != "0":
        yield ok("tracing", "processes cannot trace other processes of their user")
        return
    why = "a center's scripts can trace one another's processes, and so take over other jobs of the center"
    yield warn("tracing", why, "sysctl kernel.yama.ptrace_scope=1 (the kernel needs Yama)")
