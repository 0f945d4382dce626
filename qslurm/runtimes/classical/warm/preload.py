"""Imports the modules that warm runtimes have before they get a job."""

from __future__ import annotations

import gc
import importlib
import os
from pathlib import Path

from qslurm.errors import ConfigError, QslurmError

_OWN = (
    "qslurm.runtimes.classical.step",
    "qslurm.runtimes.hybrid.hybrid_file",
    "asyncio",
    "json",
    "subprocess",
)


def preload(names: list[str]) -> None:
    """Import the modules that jobs need. They must not start threads: a fork has none of them."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    for name in (*_OWN, *names):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"[runtimes] preload: cannot import {name!r}: {error}.",
                hint="Install it in qslurm's environment, or remove it from the list.",
            ) from error
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise QslurmError(
            "[runtimes] preload: a module started threads, which a forked runtime would not have."
        )
    gc.collect()
    gc.freeze()  # keeps the shared pages shared
