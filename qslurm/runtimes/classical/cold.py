"""Runs a job's step if no warm runtime is available: in a runtime of its own, made as the job's user, with the
same confinement.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from qslurm.c2.config.file import C2Config
from qslurm.errors import ConfigError
from qslurm.runtimes.classical import job_limits
from qslurm.runtimes.classical.confined_process import MESSAGE_BYTES, Assignment, Plan, Step, start_runtime
from qslurm.runtimes.classical.confinement import job_step, plan_of
from qslurm.runtimes.classical.step import fail_step
from qslurm.runtimes.classical.warm.warm_client import (
    SCRIPT,
    TOKEN,
    exit_of,
    output_pipes,
    step_request,
    supervise,
)
from qslurm.system import kernel

TRANSIENT = (errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.ENOSPC)
"""Errors of a node that is short of resources for the moment; ENOSPC: too many namespaces."""
START_LIMIT_S = 60.0
RETRY_S = 0.5

Start = Callable[[Plan, Step], socket.socket]
T = TypeVar("T")


def start_ready_runtime(plan: Plan, step: Step) -> socket.socket:
    """Start a runtime and return its channel once it is ready; raises OSError if this host cannot make one."""
    kernel.adopt_orphans()  # the dispatcher finds the job of a process by its ancestors
    pid, ours = start_runtime(plan, step)
    with ExitStack() as undo:
        undo.enter_context(ours)
        first_word, number, why = (ours.recv(MESSAGE_BYTES).decode() + "  ").split(" ", 2)
        os.waitpid(pid, 0)
        if first_word != "ready":
            raise OSError(int(number or 0), why.strip() or "it was terminated")
        undo.pop_all()
    return ours


def run(
    script: Path,
    config: C2Config,
    arguments: Sequence[str] | None = None,
    *,
    start: Start = start_ready_runtime,
) -> int:
    """Run the step in a confined runtime, or not at all; returns the exit code.

    `arguments` are those of a batch script to run; None: the script only starts this step.
    """
    token = os.environ.get(TOKEN) or os.urandom(16).hex()
    step = [SCRIPT, str(script), *arguments] if arguments is not None else [str(script)]
    try:
        code, reason = run_confined(
            plan_of(config, rootless=True), partial(job_step, config), token, step, start
        )
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


def run_confined(
    plan: Plan, step: Step, token: str, step_words: list[str], start: Start = start_ready_runtime
) -> tuple[int, str]:
    """The exit code, and the reason if the step was ended early."""
    channel = start_with_retries(partial(start, plan, step))
    pipes, out, err = output_pipes()
    connection, runtime_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    step_pidfd, request = os.pidfd_open(os.getpid()), step_request(token, step_words)
    socket.send_fds(
        channel,
        [msgspec.json.encode(_own_assignment())],
        [runtime_end.fileno(), step_pidfd, request, 0, out, err],
    )
    for end in (channel, runtime_end):
        end.close()
    for fd in {step_pidfd, request, out, err}:
        os.close(fd)
    first_word, _, output_limit = connection.recv(MESSAGE_BYTES).decode().partition(" ")
    if first_word != "began":
        raise OSError("the runtime ended before it started the job")
    forwarded: list[int] = []
    last_word = supervise(connection, pipes, int(output_limit), forwarded)
    return exit_of(last_word, forwarded, step_words[0] == SCRIPT)


def start_with_retries(start: Callable[[], T], *, retry_s: float = RETRY_S) -> T:
    """Start a runtime, again after an error that may pass; raises OSError if that fails for START_LIMIT_S."""
    until = time.monotonic() + START_LIMIT_S
    while True:
        try:
            return start()
        except OSError as error:
            if error.errno not in TRANSIENT or time.monotonic() > until:
                raise
        time.sleep(retry_s)


def _own_assignment() -> Assignment:
    return Assignment(
        uid=os.geteuid(),
        gid=os.getegid(),
        groups=[],
        job=None,
        cpus=sorted(os.sched_getaffinity(0)),
        limits=job_limits.limits_of(os.getpid()),
    )
