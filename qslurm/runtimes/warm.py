"""`qslurm runtimes serve`: keeps classical runtimes warm and hands them to job steps. It runs as root.

It reads nothing that a job wrote: who asks is what the kernel says of the other end of the socket, and the rest is
passed on, as descriptors, to a runtime that becomes that user before it looks. A runtime does one job.
"""

from __future__ import annotations

import array
import gc
import importlib
import os
import pwd
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from qslurm.c2.config import C2Config
from qslurm.errors import ConfigError, QslurmError
from qslurm.logfmt import Field, say
from qslurm.runtimes import kernel, limits
from qslurm.runtimes.view import View, needed
from qslurm.runtimes.warm_child import Assignment, Plan, Step, begin
from qslurm.runtimes.warm_start import put_client, take_client_away
from qslurm.runtimes.warm_status import QUESTION, WarmStatus

REQUEST_S = 1.0
"""How long a step may take to say what it wants, and wait for a runtime when none is ready."""
MOST_AT_ONCE = 64
"""Steps that are being served at a time; others start without us."""
RETRY_S = 5.0
LOOK_S = 0.5
REFILL_AFTER_S = 0.05
"""A job that begins makes processes, too; forks of one ancestor at the same time hold each other up."""
_OWN = ("qslurm.runtimes.step", "qslurm.runtimes.hybrid_file", "zmq", "asyncio", "json", "subprocess")
_GIVEN_FDS = 5
_CREDENTIALS = struct.Struct("3i")


class Caller(msgspec.Struct):
    """A step that asks: the link to it, since when, and, once it has said, its descriptors."""

    link: socket.socket
    since: float
    pid: int
    uid: int
    job: str = ""
    fds: list[int] = []


class Service:
    """The pool and its socket. `step` is what a runtime does; `say` takes an event for the log, with its fields."""

    def __init__(self, config: C2Config, step: Step, say: Callable[..., None]) -> None:
        self._config = config
        self._settings = config.runtimes
        self._step = step
        self._say = say
        self._plan = plan_of(config)
        self._selector = selectors.DefaultSelector()
        self._starting: list[socket.socket] = []
        self._ready: list[tuple[socket.socket, int]] = []
        self._callers: dict[int, Caller] = {}
        self._given = self._cold = 0
        self._retry_at = self._refill_at = 0.0
        self._listener = _listen(Path(self._settings.socket))
        self._stopped = False

    def run(self) -> None:
        """Until SIGTERM."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        while not self._stopped:
            self._refill()
            soon = self._refill_at - time.monotonic()
            for key, _ in self._selector.select(soon if 0 < soon < LOOK_S else LOOK_S):
                key.data()
            self._hand_out()
            self._forget_slow_ones()
            _reap()

    def stop(self, *_: object) -> None:
        """End at the next turn; what waits ends with us, what has a job goes on."""
        self._stopped = True

    # --- the pool ------------------------------------------------------------------------------------

    def _refill(self) -> None:
        if time.monotonic() < self._retry_at:
            return
        waiting = sum(1 for caller in self._callers.values() if caller.fds)
        if not waiting and time.monotonic() < self._refill_at:
            return
        wanted = self._settings.warm + waiting
        try:
            while len(self._starting) + len(self._ready) < wanted:
                self._start_one()
        except OSError as error:  # too many processes or files on this host
            self._retry_at = time.monotonic() + RETRY_S
            self._say("no runtime can be started", "warning", why=str(error))

    def _start_one(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            self._leave_service(ours)
            begin(theirs, self._plan, self._step)
        theirs.close()
        self._starting.append(ours)
        self._selector.register(ours, selectors.EVENT_READ, partial(self._hear, ours))

    def _leave_service(self, ours: socket.socket) -> None:
        """In the new process: have nothing of the service's or of other steps'."""
        self._selector.close()
        for one in (ours, self._listener, *self._starting, *(link for link, _ in self._ready)):
            one.close()
        for caller in self._callers.values():
            caller.link.close()
            for fd in caller.fds:
                os.close(fd)

    def _hear(self, runtime: socket.socket) -> None:
        """A runtime is ready, has failed, or has ended while it waited."""
        try:
            word, _, rest = runtime.recv(4096).decode().partition(" ")
        except OSError as error:
            word, rest = "failed", str(error)
        if word == "ready":
            self._starting.remove(runtime)
            self._ready.append((runtime, int(rest)))
            return
        self._selector.unregister(runtime)
        runtime.close()
        self._starting = [one for one in self._starting if one is not runtime]
        self._ready = [one for one in self._ready if one[0] is not runtime]
        self._retry_at = time.monotonic() + RETRY_S
        self._say("a runtime could not be made ready", "warning", why=rest or "it ended")
        settings = self._settings
        if word == "failed" and settings.confine == "auto" and self._plan.view is not None:
            self._say("jobs are not confined: this host can't; see qslurm doctor", "warning")
            self._plan = msgspec.structs.replace(self._plan, view=None)

    # --- those who ask -------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            link, _ = self._listener.accept()
        except OSError:  # it has gone again
            return
        link.setblocking(False)
        pid, uid, _ = _CREDENTIALS.unpack(
            link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if len(self._callers) >= MOST_AT_ONCE:
            link.close()
            return
        self._callers[link.fileno()] = Caller(link, time.monotonic(), pid, uid)
        self._selector.register(link, selectors.EVENT_READ, partial(self._receive, link.fileno()))

    def _receive(self, number: int) -> None:
        caller = self._callers[number]
        if caller.fds:  # it speaks twice, or has gone
            self._cold += 1
            self._drop(number)
            return
        try:
            message, ancillary, flags, _ = caller.link.recvmsg(64, socket.CMSG_SPACE(4 * _GIVEN_FDS))
        except OSError:
            message, ancillary, flags = b"", [], 0
        fds = array.array("i")
        for _, _, data in ancillary:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        caller.fds = list(fds)
        if message == QUESTION and not fds:
            with suppress(OSError):
                caller.link.send(msgspec.json.encode(self.status()))
        if len(fds) != _GIVEN_FDS or flags & socket.MSG_CTRUNC or not self._is_welcome(caller.uid):
            self._drop(number)
            return
        caller.job = message.decode(errors="replace")

    def status(self) -> WarmStatus:
        """How the pool is."""
        return WarmStatus(
            ready=len(self._ready),
            wanted=self._settings.warm,
            starting=len(self._starting),
            given=self._given,
            cold=self._cold,
            confined=self._plan.view is not None,
            pid=os.getpid(),
        )

    def _about(self, caller: Caller) -> dict[str, Field]:
        """The job as it says itself, and whose process it is as the kernel says."""
        try:
            center = pwd.getpwuid(caller.uid).pw_name.removeprefix(self._config.slurm.user_prefix)
        except KeyError:
            center = None
        return {
            "job": caller.job if caller.job.isdecimal() else "unknown",
            "center": center,
            "uid": caller.uid,
        }

    def _is_welcome(self, uid: int) -> bool:
        """Only centers' users get runtimes: nobody else has steps."""
        try:
            return uid != 0 and pwd.getpwuid(uid).pw_name.startswith(self._config.slurm.user_prefix)
        except KeyError:
            return False

    def _drop(self, number: int) -> None:
        caller = self._callers.pop(number)
        self._selector.unregister(caller.link)
        caller.link.close()
        for fd in caller.fds:
            os.close(fd)

    def _forget_slow_ones(self) -> None:
        for number, caller in list(self._callers.items()):
            if time.monotonic() - caller.since > REQUEST_S:
                if caller.fds:
                    self._cold += 1
                    why = f"none was ready within {REQUEST_S:g} s"
                    self._say("job gets no warm runtime", "warning", **self._about(caller), why=why)
                self._drop(number)

    def _hand_out(self) -> None:
        for number, caller in list(self._callers.items()):
            if caller.fds and self._ready:
                self._give(number, caller)

    def _give(self, number: int, caller: Caller) -> None:
        about = self._about(caller)
        runtime, pid = self._ready.pop(0)
        self._selector.unregister(runtime)
        try:
            watched = os.pidfd_open(caller.pid)
            try:
                job = _assignment(caller)
                _join_cgroups(caller.pid, pid)
                signal.pidfd_send_signal(watched, 0)  # it has been that process all the time
                wishes, *stdio, _ = caller.fds
                order = [caller.link.fileno(), watched, wishes, *stdio]
                socket.send_fds(runtime, [msgspec.json.encode(job)], order)
            finally:
                os.close(watched)
        except (OSError, ValueError) as error:
            self._cold += 1
            self._say("job gets no warm runtime", "warning", **about, why=str(error))
        else:
            self._given += 1
            self._refill_at = time.monotonic() + REFILL_AFTER_S
            took = (time.monotonic() - caller.since) * 1000
            self._say("job has a warm runtime", **about, ms=round(took, 1), pid=pid)
        runtime.close()
        self._drop(number)


def serve(config: C2Config, *, step: Step | None = None) -> None:
    """Serve until SIGTERM, by default job steps.

    ConfigError if this is not root, or a module can't be imported.
    """
    if os.geteuid() != 0:
        raise ConfigError("Warm runtimes become other users: this service runs as root.")
    kernel.adopt_orphans()
    _preload(config.runtimes.preload)
    service = Service(config, step or partial(_step, config), _say)
    put_client(config.runtimes)
    signal.signal(signal.SIGTERM, service.stop)
    signal.signal(signal.SIGINT, service.stop)
    _say("runtimes are kept warm", runtimes=config.runtimes.warm, socket=config.runtimes.socket)
    try:
        service.run()
    finally:
        take_client_away(config.runtimes)
        Path(config.runtimes.socket).unlink(missing_ok=True)


def plan_of(config: C2Config) -> Plan:
    """What each runtime is made like."""
    settings, socket_path = config.runtimes, config.dispatcher.socket
    if settings.confine == "never":
        return Plan(config=settings, view=None, keep_network=True)
    munge = config.dispatcher.munge_socket
    keep = [
        *needed(),
        os.path.realpath(Path(socket_path).parent),
        os.path.realpath(Path(munge).parent if munge else "/run/munge"),
    ]
    hide = [
        config.tokens.keys, config.gate.state, str(Path(config.dispatcher.store).parent), config.jobmanager.logs,
        str(Path(settings.socket).parent), *settings.hide,
    ]  # fmt: skip
    view = View(hide=hide, keep=keep, tmp_mb=settings.tmp_mb)
    remote = "://" in socket_path and not socket_path.startswith("ipc://")
    return Plan(config=settings, view=view, keep_network=settings.network or remote)


def _step(config: C2Config, script: Path) -> int:
    from qslurm.runtimes.step import run_step

    return run_step(script, config.dispatcher)


def _preload(names: list[str]) -> None:
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


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    facts = path.parent.stat()
    if facts.st_uid != 0 or facts.st_mode & 0o022:
        raise ConfigError(
            f"{path.parent} must be root's and writable by nobody else: steps run a program there."
        )
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    path.chmod(0o666)
    listener.listen(MOST_AT_ONCE)
    listener.setblocking(False)
    return listener


def _assignment(caller: Caller) -> Assignment:
    lines = Path(f"/proc/{caller.pid}/status").read_text().splitlines()
    facts = {name: words.split() for name, _, words in (line.partition(":") for line in lines)}
    uids = {int(word) for word in facts["Uid"]}
    if uids != {caller.uid}:
        raise PermissionError(f"process {caller.pid} is not of uid {caller.uid} alone")
    here = caller.fds[-1]
    folder = os.fstat(here)
    return Assignment(
        uid=caller.uid,
        gid=int(facts["Gid"][0]),
        groups=[int(word) for word in facts["Groups"]],
        folder=str(Path(f"/proc/self/fd/{here}").readlink()),
        identity=(folder.st_dev, folder.st_ino),
        cpus=sorted(os.sched_getaffinity(caller.pid)),
        limits=limits.of_process(caller.pid),
    )


def _join_cgroups(step: int, runtime: int) -> None:
    """Put the runtime where Slurm counts, limits and ends its step's processes."""
    mounts = _cgroup_mounts()
    ours = Path("/proc/self/cgroup").read_text().splitlines()
    for line in Path(f"/proc/{step}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if line not in ours and controllers in mounts:
            (mounts[controllers] / path.lstrip("/") / "cgroup.procs").write_text(str(runtime))


def _cgroup_mounts() -> dict[str, Path]:
    """Where each hierarchy is mounted, by its controllers ("" for cgroup v2)."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split()[:3]
        if kind in {"cgroup", "cgroup2"}:
            known = {"rw", "ro", "xattr", "clone_children", "noprefix"}
            names = [
                word for word in options.split(",") if word not in known and not word.startswith("release")
            ]
            found[",".join(names) if kind == "cgroup" else ""] = Path(left.split()[4])
    return found


def _reap() -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _say(event: str, level: str = "info", **fields: Field) -> None:
    say("runtimes", event, level, **fields)
