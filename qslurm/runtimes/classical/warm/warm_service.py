"""`qslurm runtimes serve`: keeps classical runtimes warm and assigns them to job steps. It runs as root.

It reads nothing that a job wrote: the kernel identifies the process at the other end of the socket, and the
request is passed on, as descriptors, to a runtime that becomes that user before it reads it. A runtime does one
job.
"""

from __future__ import annotations

import array
import os
import pwd
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from qslurm.c2.config.file import C2Config
from qslurm.errors import ConfigError
from qslurm.runtimes.classical.confined_process import Step, start_runtime
from qslurm.runtimes.classical.confinement import job_step, plan_of
from qslurm.runtimes.classical.warm.client_files import listen, remove_client, write_client
from qslurm.runtimes.classical.warm.preload import preload
from qslurm.runtimes.classical.warm.step_identity import StepProcess, assignment, join_cgroups
from qslurm.runtimes.classical.warm.warm_status import STATUS_REQUEST, WarmStatus
from qslurm.system import kernel
from qslurm.system.logfmt import Field, say
from qslurm.wire.peer import Peer
from qslurm.wire.server_limits import HandshakeLimits, PendingHandshakes

REQUEST_S = 1.0
"""How long a step may take to send its request, and how long it waits for a runtime if none is ready."""
MAX_WAITING_PER_USER = 16
"""Steps of one user that wait for a runtime at a time; others start cold."""
BACKLOG = 4096
RETRY_S = 5.0
POLL_S = 0.5
REFILL_DELAY_S = 0.05
"""A starting job makes processes, too; simultaneous forks of one ancestor slow each other down."""
_STEP_FDS = 4
_ACCEPT_BATCH = 64


class WarmRuntimeService:
    """The pool of runtimes and its socket. `step` is a runtime's work; `say` logs an event with its fields."""

    def __init__(self, config: C2Config, step: Step, say: Callable[..., None]) -> None:
        self._config = config
        self._settings = config.runtimes
        self._step = step
        self._say = say
        self._plan = plan_of(config)
        self._selector = selectors.DefaultSelector()
        self._starting: list[socket.socket] = []
        self._ready: list[tuple[socket.socket, int]] = []
        self._steps: dict[int, StepProcess] = {}
        self._unidentified: PendingHandshakes[StepProcess] = PendingHandshakes(
            HandshakeLimits(), time.monotonic
        )
        self._last_assigned: dict[int, int] = {}  # uid -> sequence number of its last runtime
        self._assigned = self._cold = 0
        self._retry_at = self._refill_at = 0.0
        self._listener = listen(Path(self._settings.socket), BACKLOG)
        self._stopped = False

    def run(self) -> None:
        """Serve until SIGTERM."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        while not self._stopped:
            self._refill()
            soon = self._refill_at - time.monotonic()
            for key, _ in self._selector.select(soon if 0 < soon < POLL_S else POLL_S):
                key.data()
            self._assign_waiting()
            self._drop_overdue()
            _reap()

    def stop(self, *_: object) -> None:
        """Stop after the current iteration. Idle runtimes end; those with a job go on."""
        self._stopped = True

    # --- the pool ------------------------------------------------------------------------------------

    def _refill(self) -> None:
        if time.monotonic() < self._retry_at:
            return
        waiting = sum(1 for step_process in self._steps.values() if step_process.fds)
        if not waiting and time.monotonic() < self._refill_at:
            return
        wanted = self._settings.warm + waiting
        try:
            while len(self._starting) + len(self._ready) < wanted:
                self._start_one()
        except OSError as error:  # too many processes or files on this host
            self._retry_at = time.monotonic() + RETRY_S
            self._say("cannot start a warm runtime", "warning", why=str(error))

    def _start_one(self) -> None:
        _, ours = start_runtime(self._plan, self._step, self._leave_service)
        self._starting.append(ours)
        self._selector.register(ours, selectors.EVENT_READ, partial(self._receive_from_runtime, ours))

    def _leave_service(self) -> None:
        """Close, in the new process, what belongs to the service or to other steps."""
        self._selector.close()
        for one in (self._listener, *self._starting, *(link for link, _ in self._ready)):
            one.close()
        for step_process in self._steps.values():
            step_process.link.close()
            step_process.peer.close()
            for fd in step_process.fds:
                os.close(fd)

    def _receive_from_runtime(self, runtime: socket.socket) -> None:
        """A runtime is ready, has failed, or has ended while it was idle."""
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
        why = rest.partition(" ")[2] or "it ended"
        self._say("cannot prepare a warm runtime; run qslurm doctor", "warning", why=why)

    # --- steps --------------------------------------------------------------------------------------

    def _accept(self) -> None:
        for _ in range(_ACCEPT_BATCH):
            try:
                link, _ = self._listener.accept()
            except OSError:  # no more connections
                return
            link.setblocking(False)
            step_process = StepProcess(link, time.monotonic(), Peer(link))
            while (oldest := self._unidentified.to_evict(step_process.host)) is not None:
                self._drop(oldest.link.fileno())
            self._unidentified.add(step_process)
            self._steps[link.fileno()] = step_process
            self._selector.register(link, selectors.EVENT_READ, partial(self._receive, step_process))

    def _receive(self, step_process: StepProcess) -> None:
        number = step_process.link.fileno()
        if self._steps.get(number) is not step_process:  # dropped in this iteration for a newer one
            return
        if step_process.fds:  # a second message, or the connection is closed
            self._cold += 1
            self._drop(number)
            return
        try:
            message, ancillary, flags, _ = step_process.link.recvmsg(64, socket.CMSG_SPACE(4 * _STEP_FDS))
        except OSError:
            message, ancillary, flags = b"", [], 0
        fds = array.array("i")
        for _, _, data in ancillary:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        step_process.fds = list(fds)
        if message == STATUS_REQUEST and not fds:
            with suppress(OSError):
                step_process.link.send(msgspec.json.encode(self.status()))
        if len(fds) != _STEP_FDS or flags & socket.MSG_CTRUNC or not self._is_allowed(step_process):
            self._drop(number)
            return
        step_process.job = message.decode(errors="replace")
        self._unidentified.remove(step_process)

    def status(self) -> WarmStatus:
        """The state of the pool."""
        return WarmStatus(
            ready=len(self._ready),
            wanted=self._settings.warm,
            starting=len(self._starting),
            given=self._assigned,
            cold=self._cold,
            confined=self._plan.view.closed,
            pid=os.getpid(),
        )

    def _log_fields(self, step_process: StepProcess) -> dict[str, Field]:
        """The job as the step reports it, and its user as the kernel reports it."""
        try:
            center = pwd.getpwuid(step_process.peer.uid).pw_name.removeprefix(self._config.slurm.user_prefix)
        except KeyError:
            center = None
        return {
            "job": step_process.job if step_process.job.isdecimal() else "unknown",
            "center": center,
            "uid": step_process.peer.uid,
        }

    def _is_allowed(self, step_process: StepProcess) -> bool:
        """Whether the step is a center's user with few other steps waiting; only centers' users have steps."""
        uid = step_process.peer.uid
        waiting = [one for one in self._steps.values() if one.fds and one.peer.uid == uid]
        if len(waiting) > MAX_WAITING_PER_USER:
            return False
        try:
            return uid != 0 and pwd.getpwuid(uid).pw_name.startswith(self._config.slurm.user_prefix)
        except KeyError:
            return False

    def _drop(self, number: int) -> None:
        step_process = self._steps.pop(number)
        self._selector.unregister(step_process.link)
        self._unidentified.remove(step_process)
        step_process.peer.close()
        step_process.link.close()
        for fd in step_process.fds:
            os.close(fd)

    def _drop_overdue(self) -> None:
        for number, step_process in list(self._steps.items()):
            if time.monotonic() - step_process.since > REQUEST_S:
                if step_process.fds:
                    self._cold += 1
                    why = f"no runtime ready within {REQUEST_S:g} s"
                    self._say(
                        "no warm runtime for the job", "warning", **self._log_fields(step_process), why=why
                    )
                self._drop(number)

    def _assign_waiting(self) -> None:
        while self._ready and (waiting := [one for one in self._steps.values() if one.fds]):
            # the user whose last runtime is longest ago, so that no user gets all of them
            self._assign(min(waiting, key=lambda one: self._last_assigned.get(one.peer.uid, 0)))

    def _assign(self, step_process: StepProcess) -> None:
        log_fields = self._log_fields(step_process)
        self._last_assigned[step_process.peer.uid] = self._assigned + self._cold + 1
        runtime, pid = self._ready.pop(0)
        self._selector.unregister(runtime)
        try:
            step_pidfd = os.pidfd_open(step_process.peer.pid)
            try:
                job = assignment(step_process)
                join_cgroups(step_process.peer.pid, pid)
                if not step_process.peer.is_alive():  # otherwise its pid may be another process's by now
                    raise ProcessLookupError("the step has ended")
                fds_to_send = [step_process.link.fileno(), step_pidfd, *step_process.fds]
                socket.send_fds(runtime, [msgspec.json.encode(job)], fds_to_send)
            finally:
                os.close(step_pidfd)
        except (OSError, ValueError) as error:
            self._cold += 1
            self._say("no warm runtime for the job", "warning", **log_fields, why=str(error))
        else:
            self._assigned += 1
            self._refill_at = time.monotonic() + REFILL_DELAY_S
            took = (time.monotonic() - step_process.since) * 1000
            self._say("warm runtime assigned", **log_fields, ms=round(took, 1), pid=pid)
        runtime.close()
        self._drop(step_process.link.fileno())


def serve(config: C2Config, *, step: Step | None = None) -> None:
    """Serve job steps until SIGTERM.

    Raises ConfigError if this is not root, or a module cannot be imported.
    """
    if os.geteuid() != 0:
        raise ConfigError(
            "Permission denied: warm runtimes switch to the jobs' users. Run this service as root."
        )
    kernel.adopt_orphans()
    preload(config.runtimes.preload)
    service = WarmRuntimeService(config, step or partial(job_step, config), _say)
    write_client(config.runtimes)
    signal.signal(signal.SIGTERM, service.stop)
    signal.signal(signal.SIGINT, service.stop)
    _say("keeping runtimes warm", runtimes=config.runtimes.warm, socket=config.runtimes.socket)
    try:
        service.run()
    finally:
        remove_client(config.runtimes)
        Path(config.runtimes.socket).unlink(missing_ok=True)


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
