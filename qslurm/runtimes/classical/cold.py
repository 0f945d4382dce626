"""A job's step where no warm runtime was to be had: a Python of its own, confined by bubblewrap if the node has it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from qslurm.c2.config import DEFAULT_PATH, PATH_VARIABLE, C2Config
from qslurm.runtimes.classical import limits
from qslurm.runtimes.classical.step import fail_step, run_step
from qslurm.runtimes.classical.view import View
from qslurm.runtimes.warm.client import DRAIN_S, PASSED_ON, TOKEN, Carrier, reason_of

TRIAL_S = 5.0


def run(script: Path, config: C2Config) -> int:
    """Run the step in a process that is confined as configured, and count what it prints; the exit code."""
    settings = config.runtimes
    if settings.confine == "never":
        return run_step(script, config.dispatcher)
    wall = bubblewrap(config)
    if not wall and settings.confine == "always":
        reason = (
            "This node can't confine jobs (no bubblewrap), and must: tell C2's operators. (qslurm doctor)"
        )
        return fail_step(script, config.dispatcher, reason)
    token = os.environ.get(TOKEN) or os.urandom(16).hex()
    command = [*wall, sys.executable, "-I", "-m", "qslurm", "step", "--inside", str(script)]
    code, reason = _attend(command, os.environ | {TOKEN: token}, settings.output_mb * limits.MB)
    if not reason:
        return code
    os.environ[TOKEN] = token
    return fail_step(script, config.dispatcher, reason)


def inside(script: Path, config: C2Config) -> int:
    """The step itself, behind the wall."""
    limits.apply(config.runtimes, own_count=os.environ.pop("QSLURM_OWN_COUNT", "") == "1")
    return run_step(script, config.dispatcher)


def bubblewrap(config: C2Config) -> list[str]:
    """The command that confines what follows it; empty if this node or this user can't."""
    from qslurm.runtimes.warm.plan import plan_of

    program, plan = shutil.which("bwrap", path="/usr/bin:/usr/local/bin"), plan_of(config)
    if program is None or plan.view is None:
        return []
    command = [program, *_walls(plan.view, Path.cwd(), network=plan.keep_network)]
    try:
        done = subprocess.run([*command, "/bin/true"], capture_output=True, timeout=TRIAL_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return command if done.returncode == 0 else []


def _walls(view: View, folder: Path, *, network: bool) -> list[str]:
    """Bubblewrap's options for a view; what is mounted later lies above."""
    size = str(view.tmp_mb * limits.MB)
    options = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--ro-bind", "/", "/"]
    options += [] if network else ["--unshare-net"]
    options += ["--dev", "/dev", "--proc", "/proc", "--size", size, "--tmpfs", "/dev/shm"]  # noqa: S108
    for scratch in ("/tmp", "/var/tmp"):  # noqa: S108
        options += ["--size", size, "--tmpfs", scratch]
    config = os.path.realpath(Path(os.environ.get(PATH_VARIABLE) or DEFAULT_PATH).parent)
    kept = {*view.keep, config}
    hidden = {os.path.realpath(path) for path in ("/run", "/root", "/home", *view.hide)}
    for path in sorted(kept | hidden, key=len):  # what is inside of another comes after it
        if Path(path).is_dir():
            options += ["--ro-bind", path, path] if path in kept else ["--tmpfs", path]
    if folder != Path("/"):
        options += ["--bind", str(folder), str(folder)]
    return [*options, "--chdir", str(folder), "--setenv", "QSLURM_OWN_COUNT", "1"]


def _attend(command: list[str], environment: dict[str, str], limit: int) -> tuple[int, str]:
    """Run a command and carry what it prints: its exit code, and why it was ended if it was."""
    out, err = os.pipe(), os.pipe()
    child = subprocess.Popen(command, env=environment, stdout=out[1], stderr=err[1], start_new_session=True)
    for fd in (out[1], err[1]):
        os.close(fd)
    passed_on: list[int] = []

    def pass_on(number: int, _: object) -> None:
        passed_on.append(number)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    carry = Carrier({out[0]: 1, err[0]: 2}, limit)
    _carry(carry, child)
    if carry.trouble:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return 1, carry.trouble
    code = child.wait()
    number = (
        -code if code < 0 else code - 128 if code > 128 else 0
    )  # bubblewrap says a signal as a shell does
    if number and number in passed_on:
        # As its code ended, so does the step: by the signal Slurm tells a cancelled job from a failed one.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return code, reason_of(number) if number else ""


def _carry(carry: Carrier, child: subprocess.Popen[bytes]) -> None:
    """Until the child has ended and everything was carried, or too much."""
    process = os.pidfd_open(child.pid)
    waiting = select.poll()
    for fd in (process, *carry.open):
        waiting.register(fd, select.POLLIN)
    patience: float | None = None
    while carry.open and not carry.trouble and (ready := waiting.poll(patience)):
        for fd, _ in ready:
            if fd == process:
                waiting.unregister(process)
                patience = DRAIN_S * 1000  # a process of the job's may still have the pipes
            elif not carry.move(fd):
                waiting.unregister(fd)
    os.close(process)
