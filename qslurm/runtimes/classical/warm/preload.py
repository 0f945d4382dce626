"""The modules that warm runtimes have imported before they have a job."""

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
    """Import what jobs will want. Libraries that start threads must not: a fork has none of them."""
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
    gc.freeze()  # so that no runtime copies what it only reads
