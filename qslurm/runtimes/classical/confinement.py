"""How jobs are confined on this platform, warm runtimes and those that a step starts for itself alike."""

from __future__ import annotations

from pathlib import Path

from qslurm.c2.config.file import C2Config
from qslurm.runtimes.classical.confined_process import Plan
from qslurm.runtimes.classical.view import View, needed, refuse_exposed


def plan_of(config: C2Config, *, rootless: bool = False) -> Plan:
    """What each runtime is made like; ConfigError if what jobs need lies where they must not look."""
    settings, socket_path = config.runtimes, config.dispatcher.socket.removeprefix("ipc://")
    munge = config.dispatcher.munge_socket
    keep = [
        *needed(),
        str(Path(socket_path).parent),
        str(Path(munge).parent if munge else "/run/munge"),
    ]
    hide = [
        config.tokens.keys, config.gate.state, str(Path(config.dispatcher.store).parent), config.jobmanager.logs,
        str(Path(settings.socket).parent), *settings.hide,
    ]  # fmt: skip
    closed = settings.confine == "always"
    if closed:
        refuse_exposed(keep, hide)
    view = View(hide=hide, keep=keep, tmp_mb=settings.tmp_mb, closed=closed)
    keep_network = settings.network or "://" in socket_path
    return Plan(config=settings, view=view, keep_network=keep_network, rootless=rootless)


def job_step(config: C2Config, script: Path) -> int:
    """What a runtime does for a job: its step."""
    from qslurm.runtimes.classical.step import run_step

    return run_step(script, config.dispatcher)
