"""A job's step where no warm runtime was to be had: it makes one for itself, as its own user, with the same view."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from qslurm.c2.config.file import C2Config
from qslurm.errors import ConfigError
from qslurm.runtimes.classical import job_limits
from qslurm.runtimes.classical.confined_process import MESSAGE_BYTES, Assignment, Plan, Step, start
from qslurm.runtimes.classical.confinement import job_step, plan_of
from qslurm.runtimes.classical.step import fail_step
from qslurm.runtimes.classical.warm.warm_client import SCRIPT, TOKEN, attend, outcome, output_pipes, wishes
from qslurm.system import kernel

TRANSIENT = (errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.ENOSPC)
"""What a node says that has no room at the moment; ENOSPC: too many namespaces."""
PATIENCE_S = 60.0
PAUSE_S = 0.5


def run(script: Path, config: C2Config, arguments: Sequence[str] | None = None) -> int:
    """Run the step in a runtime that is confined, or not at all; the exit code.

    `arguments` are those of a batch script that is to be run; None: the script only hands over to this step.
    """
    token = os.environ.get(TOKEN) or os.urandom(16).hex()
    step = [SCRIPT, str(script), *arguments] if arguments is not None else [str(script)]
    try:
        code, reason = _run(plan_of(config, rootless=True), partial(job_step, config), token, step)
    except (OSError, ConfigError) as error:
        code, reason = (
            1,
            f"Cannot confine the job on this node: {error}. The job was not run. Tell C2's operators.",
        )
    if not reason:
        return code
    if arguments is not None:
        print(f"qslurm: {reason}", file=sys.stderr)
        return code
    os.environ[TOKEN] = token
    return fail_step(script, config.dispatcher, reason)


def _run(plan: Plan, step: Step, token: str, words: list[str]) -> tuple[int, str]:
    """The exit code, and why the step was ended if it was."""
    kernel.adopt_orphans()  # by its ancestors the dispatcher knows whose job a process is
    channel = _started(plan, step)
    pipes, out, err = output_pipes()
    link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    watched, asked = os.pidfd_open(os.getpid()), wishes(token, words)
    socket.send_fds(channel, [msgspec.json.encode(_own())], [theirs.fileno(), watched, asked, 0, out, err])
    for one in (channel, theirs):
        one.close()
    for fd in {watched, asked, out, err}:
        os.close(fd)
    word, _, most = link.recv(MESSAGE_BYTES).decode().partition(" ")
    if word != "began":
        raise OSError("the runtime ended before it started the job")
    ended_by: list[int] = []
    verdict = attend(link, pipes, int(most), ended_by)
    return outcome(verdict, ended_by, words[0] == SCRIPT)


def _started(plan: Plan, step: Step) -> socket.socket:
    """The way to a runtime that is ready; OSError if this node can't make one, also not a little later."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return start_one(plan, step)
        except OSError as error:
            if error.errno not in TRANSIENT or time.monotonic() > until:
                raise
        time.sleep(PAUSE_S)


def start_one(plan: Plan, step: Step) -> socket.socket:
    """The way to a new runtime, which is ready; OSError says why this host can't make one."""
    pid, ours = start(plan, step)
    with ExitStack() as undoing:
        undoing.enter_context(ours)
        word, number, why = (ours.recv(MESSAGE_BYTES).decode() + "  ").split(" ", 2)
        os.waitpid(pid, 0)
        if word != "ready":
            raise OSError(int(number or 0), why.strip() or "it was terminated")
        undoing.pop_all()
    return ours


def _own() -> Assignment:
    """The user and limits of the step itself."""
    return Assignment(
        uid=os.geteuid(),
        gid=os.getegid(),
        groups=[],
        job=None,
        cpus=sorted(os.sched_getaffinity(0)),
        limits=job_limits.of_process(os.getpid()),
    )
