"""How long a job waits for a classical runtime with numpy and scipy imported: warm, and cold."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from bench.report import Report
from qslurm.c2.config.dispatcher_section import DispatcherConfig
from qslurm.c2.config.file import C2Config, SlurmConfig
from qslurm.c2.config.runtimes_section import RuntimesConfig
from qslurm.runtimes.classical.warm.client_files import client_command
from qslurm.runtimes.classical.warm.warm_status import query_warm_status

NOBODY = 65534
PAPER_S = 3.0
READY_S = 30.0


def run(report: Report) -> None:
    """Measure from the start of a step's first program to the first line of the user's file."""
    if os.geteuid() != 0:
        report.note("Skipped: needs root, because warm runtimes switch to other users.")
        return
    cold = report.measure("cold: Python, qslurm, numpy and scipy.optimize", _cold, unit="s", peer=PAPER_S)
    for confine, walls in (("never", ""), ("always", ", confined")):
        with service(confine) as folder:
            values = [warm(folder) for _ in range(report.runs)]
            report.add(f"warm{walls}, as the job's user", values, unit="s", peer=cold)


@contextmanager
def service(confine: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="qslurm-bench-", dir="/var/lib"))
    folder.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        _serve(folder, confine)
    try:
        yield folder
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        shutil.rmtree(folder)


def _cold() -> float:
    start = time.monotonic()
    job = "qslurm.runtimes.classical.step, qslurm.runtimes.hybrid.hybrid_file"
    wanted = f"qslurm.cli.hook, qslurm.c2.config.file, {job}, zmq"
    code = f"import {wanted}, numpy, scipy.optimize, time; print(time.monotonic())"
    root = str(Path(sys.modules["qslurm"].__file__ or "").parent.parent)
    argv = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {root!r}); {code}"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, timeout=60, check=True)
    return float(done.stdout) - start


def _serve(folder: Path, confine: str) -> NoReturn:
    from qslurm.runtimes.classical.warm import warm_service as warm

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    config = C2Config(
        slurm=SlurmConfig(user_prefix=""),
        dispatcher=DispatcherConfig(socket="/run/none/dispatcher.sock"),
        runtimes=RuntimesConfig(socket=str(folder / "warm.sock"), confine=confine),  # type: ignore[arg-type]
    )
    status = 1
    try:
        warm.serve(config, step=_say_when)
        status = 0
    finally:
        os._exit(status)


def _say_when(script: Path) -> int:  # noqa: ARG001 -- what a step is called with
    import numpy  # noqa: F401
    import scipy.optimize  # noqa: F401

    print(time.monotonic(), flush=True)
    return 0


def warm(folder: Path) -> float:
    socket = str(folder / "warm.sock")
    until = time.monotonic() + READY_S
    while not ((status := query_warm_status(socket)) and status.ready == status.wanted):
        if time.monotonic() > until:
            raise TimeoutError("no runtime became ready")
        time.sleep(0.05)
    start = time.monotonic()
    done = started_by(folder)
    done.check_returncode()
    return float(done.stdout) - start


def started_by(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a step that gets its runtime from the service, to its end."""
    return subprocess.run(
        [*client_command(RuntimesConfig(socket=str(folder / "warm.sock"))), "job.sh"],
        capture_output=True, text=True, timeout=60, check=False, cwd="/", user=NOBODY, group=NOBODY, extra_groups=[],
    )  # fmt: skip
