"""A runtime for one job: forked with its modules imported, it makes its view of the node, waits, does a step, and ends.

The service for warm runtimes forks it as root; a step that gets none from there forks one for itself, in a user
namespace of its own. The view and the limits are the same.

Three processes follow each other. The first makes the namespaces and ends. The second is the first process of
its process namespace: it waits for a job, then watches over it; when it ends the kernel ends all that the
job has started. It keeps root's uid with three capabilities (to look at the job's processes, and to end them) and never
touches a file or a descriptor of the job's. The third becomes the job's user and runs the step, or the job's script.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec

from qslurm.c2.config.runtimes_section import RuntimesConfig
from qslurm.runtimes.classical import job_limits, view
from qslurm.runtimes.classical.script import run_script
from qslurm.runtimes.classical.warm.warm_client import DONE, FAILED
from qslurm.system import kernel
from qslurm.system.encoding_errors import let_take_any_text
from qslurm.system.fast_exit import leave
from qslurm.system.job_of_process import name_of_watcher

MESSAGE_BYTES = 65536
FDS = 7

Step = Callable[[Path], int]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a runtime knows before it has a job. `rootless`: whoever makes it is the job's user already."""

    config: RuntimesConfig
    view: view.View
    keep_network: bool
    rootless: bool = False


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """Whose step it is, as the kernel says of the process that asks.

    `job` is its Slurm job; None if it is in none.
    """

    job: int | None
    uid: int
    gid: int
    groups: list[int]
    cpus: list[int]
    limits: list[tuple[int, int, int]]


def start(
    plan: Plan, step: Step, leave_parent: Callable[[], None] = lambda: None
) -> tuple[int, socket.socket]:
    """Fork a runtime: the pid of its first process, and its channel, on which that says how it went.

    `leave_parent` closes in the new process what it must not have of its parent. OSError if there is no room for it.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            raise
        if pid == 0:
            ours.close()
            leave_parent()
            _begin(theirs, plan, step)
    return pid, ours


def _begin(channel: socket.socket, plan: Plan, step: Step) -> NoReturn:
    """The first process. Says `ready <pid of the second>` or `failed <errno> <why>` on the channel, and ends."""
    try:
        flags = kernel.CLONE_NEWPID | kernel.CLONE_NEWNS
        if plan.view.closed:
            flags |= kernel.CLONE_NEWIPC | (0 if plan.keep_network else kernel.CLONE_NEWNET)
        if plan.rootless:
            kernel.unshare_as_user(flags)
        else:
            kernel.unshare(flags)
        ready_in, ready_out = os.pipe()
        pid = os.fork()
    except OSError as error:
        channel.send(_failed(error))
        os._exit(1)
    if pid == 0:
        os.close(ready_in)
        _second(channel, plan, step, ready_out)
    os.close(ready_out)
    said = os.read(ready_in, MESSAGE_BYTES)
    channel.send(b"ready %d" % pid if said == b"ready" else said or b"failed 0 it was ended")
    os._exit(0)


def _failed(error: BaseException) -> bytes:
    return f"failed {getattr(error, 'errno', 0) or 0} {error}".encode()


def _second(channel: socket.socket, plan: Plan, step: Step, ready: int) -> NoReturn:
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        view.make(plan.view)
        os.write(ready, b"ready")
        os.close(ready)
    except BaseException as error:  # noqa: BLE001 -- as below
        os.write(ready, _failed(error))
        os._exit(1)
    try:
        message, fds, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, FDS)
        channel.close()
        if message:
            _do_job(msgspec.json.decode(message, type=Assignment), plan, step, fds)
    except BaseException as error:  # noqa: BLE001 -- whatever it is, there must be no way out but this
        os.write(2, f"a warm runtime failed: {type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os._exit(0)


def _do_job(job: Assignment, plan: Plan, step: Step, fds: list[int]) -> None:
    link_fd, caller, wishes, *stdio = fds
    link = socket.socket(fileno=link_fd)
    if not plan.rootless:
        os.chown(view.WORK, job.uid, job.gid)
        if job.job is not None:  # what this process starts is that job's, though slurmstepd did not start it
            Path("/proc/self/comm").write_text(name_of_watcher(job.job))
    to_third, from_second = os.pipe()
    to_second, from_third = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for fd in (link_fd, caller, from_second, to_second):
                os.close(fd)
            _become_the_jobs(job, plan, from_third, to_third)
            _third(step, wishes, stdio)
        except BaseException as error:  # noqa: BLE001 -- as above
            with contextlib.suppress(OSError):
                os.write(stdio[2], f"qslurm: the runtime could not start: {error}\n".encode())
        os._exit(1)
    for fd in (wishes, *stdio, to_third, from_third):
        os.close(fd)
    link.send(b"began %d" % (plan.config.output_mb * job_limits.MB))
    _map_user(pid, job, to_second, from_second)
    kernel.keep_only(kernel.CAP_KILL, kernel.CAP_SYS_PTRACE, kernel.CAP_DAC_READ_SEARCH)
    _watch(pid, link, caller, plan.config)


# --- the second process: watching --------------------------------------------------------------------


def _watch(pid: int, link: socket.socket, caller: int, config: RuntimesConfig) -> None:
    """Until the job's process has ended, its step has gone, or it uses too much."""
    process = os.pidfd_open(pid)
    waiting = select.poll()
    for fd in (process, link.fileno(), caller):
        waiting.register(fd, select.POLLIN)
    next_look = time.monotonic() + job_limits.LOOK_EVERY_S
    while True:
        ready = {fd for fd, _ in waiting.poll(max(0.0, next_look - time.monotonic()) * 1000)}
        if caller in ready:
            return
        if link.fileno() in ready:
            order = link.recv(1)
            if not order:
                return
            signal.pidfd_send_signal(process, order[0])
        if process in ready:
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            too_much = job_limits.excess(job_limits.look(config.memory_mb * job_limits.MB), config)
            verdict = f"exit {code}" if code >= 0 else f"signal {-code}"
            _say(link, f"limit {too_much}" if too_much and code != DONE else verdict)
            return
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + job_limits.LOOK_EVERY_S
            _reap(pid)
            if too_much := job_limits.excess(job_limits.look(config.memory_mb * job_limits.MB), config):
                _say(link, f"limit {too_much}")
                return


def _say(link: socket.socket, verdict: str) -> None:
    with contextlib.suppress(OSError):  # the step has gone, too
        link.send(verdict.encode())


def _reap(not_this: int) -> None:
    """Take note of orphans that have ended."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid == not_this:
            return
        os.waitpid(found.si_pid, 0)


def _map_user(pid: int, job: Assignment, to_second: int, from_second: int) -> None:
    """Tell the third process's user namespace who the job's user is, if it could make one."""
    if os.read(to_second, 1) == b"u":
        Path(f"/proc/{pid}/gid_map").write_text(f"{job.gid} {job.gid} 1\n")
        Path(f"/proc/{pid}/uid_map").write_text(f"{job.uid} {job.uid} 1\n")
        os.write(from_second, b"m")
    os.close(to_second)
    os.close(from_second)


# --- the third process: the job's --------------------------------------------------------------------


def _become_the_jobs(job: Assignment, plan: Plan, say: int, hear: int) -> None:
    os.setsid()
    if not plan.rootless:
        os.setgroups(job.groups)
        os.setresgid(job.gid, job.gid, job.gid)
    os.sched_setaffinity(0, job.cpus)
    job_limits.take_over(job.limits)
    own_count = plan.rootless or _own_user_namespace(say, hear)
    for fd in (say, hear):
        os.close(fd)
    if own_count:
        with contextlib.suppress(OSError):
            Path("/proc/sys/user/max_user_namespaces").write_text("0")
    job_limits.apply(plan.config, own_count=own_count)
    kernel.become(job.uid, hidden=not plan.rootless)  # a watcher of the same user could not watch it


def _own_user_namespace(say: int, hear: int) -> bool:
    """In it processes are counted anew, and no further namespace can be made."""
    try:
        kernel.unshare(kernel.CLONE_NEWUSER)
    except OSError:
        return False
    os.write(say, b"u")
    if os.read(hear, 1) != b"m":
        raise PermissionError("the user namespace was not set up")
    return True


def _third(step: Step, wishes: int, stdio: list[int]) -> NoReturn:
    size = os.fstat(wishes).st_size
    words = os.pread(wishes, size, 0).split(b"\0")
    token, umask, script, count, *rest = (word.decode(errors="surrogateescape") for word in words)
    own, variables = rest[: int(count)], rest[int(count) :]
    os.umask(int(umask))
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(view.WORK)
    os.environ.clear()
    for variable in variables:
        name, _, value = variable.partition("=")
        os.environ[name] = value
    if own:
        run_script(os.fsencode(own[0]), view.WORK.with_name("script"), own[1:])
    os.environ["QSLURM_STEP_TOKEN"] = token
    sys.argv = ["qslurm", "step", script]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    let_take_any_text(sys.stdout)
    let_take_any_text(sys.stderr)
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)
    _fresh_randomness()
    gc.enable()
    code = 1
    try:
        code = step(Path(script))
    except BaseException:  # noqa: BLE001 -- shown as Python shows it
        sys.excepthook(*sys.exc_info())
    leave(FAILED if code else DONE)


def _fresh_randomness() -> None:
    """What was seeded before the fork is the same in all runtimes; Python's own `random` sees to itself."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        numpy.random.seed()
