"""A runtime for one job: forked with its modules imported, it makes its view of the node, waits for a job, runs
it, and ends.

The warm runtimes' service forks it as root; a step that gets none there forks one itself, in a user namespace
of its own. The view and the limits are the same.

It takes three processes. The first makes the namespaces and ends. The second is the first process of its PID
namespace: it waits for a job, then supervises it; when it ends, the kernel ends everything that the job has
started. It keeps root's uid with three capabilities (to look at the job's processes, and to end them) and never
touches a file or a descriptor of the job's. The third becomes the job's user and runs the step, or the job's
script.
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
from qslurm.system.encoding_errors import replace_unencodable
from qslurm.system.fast_exit import leave
from qslurm.system.job_of_process import name_of_watcher

MESSAGE_BYTES = 65536
MAX_FDS = 7

Step = Callable[[Path], int]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a runtime needs before it has a job. `rootless`: the process that makes it runs as the job's user."""

    config: RuntimesConfig
    view: view.View
    keep_network: bool
    rootless: bool = False


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """The job's user and limits, as the kernel reports them for the step that asks.

    `job` is its Slurm job id; None outside a job.
    """

    job: int | None
    uid: int
    gid: int
    groups: list[int]
    cpus: list[int]
    limits: list[tuple[int, int, int]]


def start_runtime(
    plan: Plan, step: Step, leave_parent: Callable[[], None] = lambda: None
) -> tuple[int, socket.socket]:
    """Fork a runtime: the pid of its first process, and the channel on which it reports `ready` or `failed`.

    `leave_parent` closes, in the new process, what it must not inherit. Raises OSError if the process cannot be
    forked.
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
            _first_process(theirs, plan, step)
    return pid, ours


def _first_process(channel: socket.socket, plan: Plan, step: Step) -> NoReturn:
    """Send `ready <pid of the second>` or `failed <errno> <reason>` on the channel, and end."""
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
        _second_process(channel, plan, step, ready_out)
    os.close(ready_out)
    answer = os.read(ready_in, MESSAGE_BYTES)
    channel.send(b"ready %d" % pid if answer == b"ready" else answer or b"failed 0 it was ended")
    os._exit(0)


def _failed(error: BaseException) -> bytes:
    return f"failed {getattr(error, 'errno', 0) or 0} {error}".encode()


def _second_process(channel: socket.socket, plan: Plan, step: Step, ready: int) -> NoReturn:
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        view.make_view(plan.view)
        os.write(ready, b"ready")
        os.close(ready)
    except BaseException as error:  # noqa: BLE001 -- sent to the parent
        os.write(ready, _failed(error))
        os._exit(1)
    try:
        message, fds, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, MAX_FDS)
        channel.close()
        if message:
            _do_job(msgspec.json.decode(message, type=Assignment), plan, step, fds)
    except BaseException as error:  # noqa: BLE001 -- a forked process must not return
        os.write(2, f"a warm runtime failed: {type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os._exit(0)


def _do_job(job: Assignment, plan: Plan, step: Step, fds: list[int]) -> None:
    link_fd, step_pidfd, request, *stdio = fds
    link = socket.socket(fileno=link_fd)
    if not plan.rootless:
        os.chown(view.WORK, job.uid, job.gid)
        if job.job is not None:  # by this name the dispatcher finds the job of what it starts
            Path("/proc/self/comm").write_text(name_of_watcher(job.job))
    from_second, to_third = os.pipe()
    from_third, to_second = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for fd in (link_fd, step_pidfd, to_third, from_third):
                os.close(fd)
            _become_job_user(job, plan, to_second, from_second)
            _third_process(step, request, stdio)
        except BaseException as error:  # noqa: BLE001 -- printed for the user
            with contextlib.suppress(OSError):
                os.write(stdio[2], f"qslurm: the runtime could not start: {error}\n".encode())
        os._exit(1)
    for fd in (request, *stdio, from_second, to_second):
        os.close(fd)
    link.send(b"began %d" % (plan.config.output_mb * job_limits.MB))
    _map_job_user(pid, job, from_third, to_third)
    kernel.keep_only(kernel.CAP_KILL, kernel.CAP_SYS_PTRACE, kernel.CAP_DAC_READ_SEARCH)
    _supervise(pid, link, step_pidfd, plan.config)


# --- the second process: supervising ------------------------------------------------------------------


def _supervise(pid: int, link: socket.socket, step_pidfd: int, config: RuntimesConfig) -> None:
    """Wait until the job's process ends, its step ends, or the job exceeds a limit."""
    process = os.pidfd_open(pid)
    poll = select.poll()
    for fd in (process, link.fileno(), step_pidfd):
        poll.register(fd, select.POLLIN)
    next_check = time.monotonic() + job_limits.CHECK_EVERY_S
    while True:
        ready = {fd for fd, _ in poll.poll(max(0.0, next_check - time.monotonic()) * 1000)}
        if step_pidfd in ready:
            return
        if link.fileno() in ready:
            signal_byte = link.recv(1)
            if not signal_byte:
                return
            signal.pidfd_send_signal(process, signal_byte[0])
        if process in ready:
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            exceeded = job_limits.exceeded_limit(job_limits.usage(config.memory_mb * job_limits.MB), config)
            outcome = f"exit {code}" if code >= 0 else f"signal {-code}"
            _send_outcome(link, f"limit {exceeded}" if exceeded and code != DONE else outcome)
            return
        if time.monotonic() >= next_check:
            next_check = time.monotonic() + job_limits.CHECK_EVERY_S
            _reap(pid)
            if exceeded := job_limits.exceeded_limit(
                job_limits.usage(config.memory_mb * job_limits.MB), config
            ):
                _send_outcome(link, f"limit {exceeded}")
                return


def _send_outcome(link: socket.socket, outcome: str) -> None:
    with contextlib.suppress(OSError):  # the step has ended, too
        link.send(outcome.encode())


def _reap(job_pid: int) -> None:
    """Reap orphans that have ended, until the job's process is next."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid == job_pid:
            return
        os.waitpid(found.si_pid, 0)


def _map_job_user(pid: int, job: Assignment, from_third: int, to_third: int) -> None:
    """Map the job's user into the third process's user namespace, if it has made one."""
    if os.read(from_third, 1) == b"u":
        Path(f"/proc/{pid}/gid_map").write_text(f"{job.gid} {job.gid} 1\n")
        Path(f"/proc/{pid}/uid_map").write_text(f"{job.uid} {job.uid} 1\n")
        os.write(to_third, b"m")
    os.close(from_third)
    os.close(to_third)


# --- the third process: the job's --------------------------------------------------------------------


def _become_job_user(job: Assignment, plan: Plan, to_second: int, from_second: int) -> None:
    os.setsid()
    if not plan.rootless:
        os.setgroups(job.groups)
        os.setresgid(job.gid, job.gid, job.gid)
    os.sched_setaffinity(0, job.cpus)
    job_limits.set_limits(job.limits)
    has_user_namespace = plan.rootless or _make_user_namespace(to_second, from_second)
    for fd in (to_second, from_second):
        os.close(fd)
    if has_user_namespace:
        with contextlib.suppress(OSError):
            Path("/proc/sys/user/max_user_namespaces").write_text("0")
    job_limits.apply(plan.config, has_user_namespace=has_user_namespace)
    kernel.become(job.uid, hidden=not plan.rootless)  # hidden from a supervisor of the same user, too


def _make_user_namespace(to_second: int, from_second: int) -> bool:
    """In a user namespace processes are counted anew, and no further namespace can be made."""
    try:
        kernel.unshare(kernel.CLONE_NEWUSER)
    except OSError:
        return False
    os.write(to_second, b"u")
    if os.read(from_second, 1) != b"m":
        raise PermissionError("the user namespace was not set up")
    return True


def _third_process(step: Step, request: int, stdio: list[int]) -> NoReturn:
    size = os.fstat(request).st_size
    fields = os.pread(request, size, 0).split(b"\0")
    token, umask, script, count, *rest = (word.decode(errors="surrogateescape") for word in fields)
    script_words, variables = rest[: int(count)], rest[int(count) :]
    os.umask(int(umask))
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(view.WORK)
    os.environ.clear()
    for variable in variables:
        name, _, value = variable.partition("=")
        os.environ[name] = value
    if script_words:
        run_script(os.fsencode(script_words[0]), view.WORK.with_name("script"), script_words[1:])
    os.environ["QSLURM_STEP_TOKEN"] = token
    sys.argv = ["qslurm", "step", script]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    replace_unencodable(sys.stdout)
    replace_unencodable(sys.stderr)
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)
    _reseed_numpy()
    gc.enable()
    code = 1
    try:
        code = step(Path(script))
    except BaseException:  # noqa: BLE001 -- printed as Python prints it
        sys.excepthook(*sys.exc_info())
    leave(FAILED if code else DONE)


def _reseed_numpy() -> None:
    """Numpy was seeded before the fork, the same in all runtimes; Python's own `random` reseeds itself."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        numpy.random.seed()
