"""What warm runtimes are made of: the modules that they have, and what their jobs see."""

from __future__ import annotations

import gc
import importlib
import os
from pathlib import Path

from qslurm.c2.config.file import C2Config
from qslurm.errors import ConfigError, QslurmError
from qslurm.runtimes.classical.view import View, needed, refuse_exposed
from qslurm.runtimes.classical.warm.runtime import Plan

_OWN = (
    "qslurm.runtimes.classical.step",
    "qslurm.runtimes.hybrid.hybrid_file",
    "asyncio",
    "json",
    "subprocess",
)


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


def preload(names: list[str]) -> None:
    """Import what jobs will want. Libraries that start threads must not: a fork has none of them."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    for name in (*_OWN, *names):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"runtimes.preload names {name!r}, which can't be imported: {error}.",
                hint="Install it beside qslurm, or take it out of the list.",
            ) from error
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise QslurmError("A preloaded module has started threads, and a forked runtime would not have them.")
    gc.collect()
    gc.freeze()  # so that no runtime copies what it only reads
