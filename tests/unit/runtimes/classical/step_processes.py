"""Job steps in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec

from tests.unit.c2.dispatcher.running import ROOT, Running

UID = os.getuid()

_STEP = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import msgspec
from qslurm.c2.config.dispatcher_section import DispatcherConfig
from qslurm.wire.credentials import SameUser
from qslurm.runtimes.classical.step import run_step
config = msgspec.json.decode(sys.argv[2], type=DispatcherConfig)
sys.exit(run_step(Path("job.sh"), config, identity=SameUser()))
"""


def begin(running: Running, job_id: int | None, restart: int = 0) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    if job_id is not None:
        environment |= {"SLURM_JOB_ID": str(job_id), "SLURM_RESTART_COUNT": str(restart)}
    config = msgspec.json.encode(running.config).decode()
    return subprocess.Popen(
        [sys.executable, "-c", _STEP, str(ROOT), config],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def end(step: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = step.communicate(timeout=40)
    finally:
        step.kill()  # it may be what a test finds out that it goes on
    return step.returncode, out, err
