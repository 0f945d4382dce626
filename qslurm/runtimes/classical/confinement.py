"""The confinement that the configuration asks for: the same for warm runtimes and for those that a step starts
itself.
"""

from __future__ import annotations

from pathlib import Path

from qslurm.c2.config.file import C2Config
from qslurm.runtimes.classical.confined_process import Plan
from qslurm.runtimes.classical.view import View, python_folders, refuse_exposed


def plan_of(config: C2Config, *, rootless: bool = False) -> Plan:
    """The plan of each runtime; ConfigError if a folder that jobs need lies in one they must not see."""
    settings, socket_path = config.runtimes, config.dispatcher.socket.removeprefix("ipc://")
    munge = config.dispatcher.munge_socket
    keep = [
        *python_folders(),
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
    """Run a job's step: the work of a runtime."""
    from qslurm.runtimes.classical.step import run_step

    return run_step(script, config.dispatcher)
