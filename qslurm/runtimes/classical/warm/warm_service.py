"""`qslurm runtimes serve`: keeps classical runtimes warm and hands them to job steps. It runs as root.

It reads nothing that a job wrote: who asks is what the kernel says of the other end of the socket, and the rest is
passed on, as descriptors, to a runtime that becomes that user before it looks. A runtime does one job.
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
from qslurm.runtimes.classical.confined_process import Step, start
from qslurm.runtimes.classical.confinement import job_step, plan_of
from qslurm.runtimes.classical.warm.client_files import listen, put_client, take_client_away
from qslurm.runtimes.classical.warm.preload import preload
from qslurm.runtimes.classical.warm.step_identity import StepProcess, assignment, join_cgroups
from qslurm.runtimes.classical.warm.warm_status import QUESTION, WarmStatus
from qslurm.system import kernel
from qslurm.system.logfmt import Field, say
from qslurm.wire.peer import Peer
from qslurm.wire.server_limits import HandshakeLimits, PendingHandshakes

REQUEST_S = 1.0
"""How long a step may take to say what it wants, and wait for a runtime when none is ready."""
MOST_OF_ONE = 16
"""Steps of one user that wait for a runtime at a time; others start without us."""
BACKLOG = 4096
RETRY_S = 5.0
LOOK_S = 0.5
REFILL_AFTER_S = 0.05
"""A job that begins makes processes, too; forks of one ancestor at the same time hold each other up."""
_GIVEN_FDS = 4
_ACCEPTED_AT_ONCE = 64


class WarmRuntimeService:
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
        self._callers: dict[int, StepProcess] = {}
        self._unidentified: PendingHandshakes[StepProcess] = PendingHandshakes(
            HandshakeLimits(), time.monotonic
        )
        self._turns: dict[int, int] = {}  # uid: when, as a number, it was last given a runtime
        self._given = self._cold = 0
        self._retry_at = self._refill_at = 0.0
        self._listener = listen(Path(self._settings.socket), BACKLOG)
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
            self._say("cannot start a warm runtime", "warning", why=str(error))

    def _start_one(self) -> None:
        _, ours = start(self._plan, self._step, self._leave_service)
        self._starting.append(ours)
        self._selector.register(ours, selectors.EVENT_READ, partial(self._hear, ours))

    def _leave_service(self) -> None:
        """In the new process: have nothing of the service's or of other steps'."""
        self._selector.close()
        for one in (self._listener, *self._starting, *(link for link, _ in self._ready)):
            one.close()
        for caller in self._callers.values():
            caller.link.close()
            caller.peer.close()
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
        why = rest.partition(" ")[2] or "it ended"
        self._say("cannot prepare a warm runtime; run qslurm doctor", "warning", why=why)

    # --- those who ask -------------------------------------------------------------------------------

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                link, _ = self._listener.accept()
            except OSError:  # that was all
                return
            link.setblocking(False)
            caller = StepProcess(link, time.monotonic(), Peer(link))
            while (oldest := self._unidentified.to_evict(caller.host)) is not None:
                self._drop(oldest.link.fileno())
            self._unidentified.add(caller)
            self._callers[link.fileno()] = caller
            self._selector.register(link, selectors.EVENT_READ, partial(self._receive, caller))

    def _receive(self, caller: StepProcess) -> None:
        number = caller.link.fileno()
        if self._callers.get(number) is not caller:  # it had to give way in this very round
            return
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
        if len(fds) != _GIVEN_FDS or flags & socket.MSG_CTRUNC or not self._is_welcome(caller):
            self._drop(number)
            return
        caller.job = message.decode(errors="replace")
        self._unidentified.remove(caller)

    def status(self) -> WarmStatus:
        """How the pool is."""
        return WarmStatus(
            ready=len(self._ready),
            wanted=self._settings.warm,
            starting=len(self._starting),
            given=self._given,
            cold=self._cold,
            confined=self._plan.view.closed,
            pid=os.getpid(),
        )

    def _about(self, caller: StepProcess) -> dict[str, Field]:
        """The job as it says itself, and whose process it is as the kernel says."""
        try:
            center = pwd.getpwuid(caller.peer.uid).pw_name.removeprefix(self._config.slurm.user_prefix)
        except KeyError:
            center = None
        return {
            "job": caller.job if caller.job.isdecimal() else "unknown",
            "center": center,
            "uid": caller.peer.uid,
        }

    def _is_welcome(self, caller: StepProcess) -> bool:
        """Only centers' users get runtimes: nobody else has steps. And not too many wait of one."""
        uid = caller.peer.uid
        waiting = [one for one in self._callers.values() if one.fds and one.peer.uid == uid]
        if len(waiting) > MOST_OF_ONE:
            return False
        try:
            return uid != 0 and pwd.getpwuid(uid).pw_name.startswith(self._config.slurm.user_prefix)
        except KeyError:
            return False

    def _drop(self, number: int) -> None:
        caller = self._callers.pop(number)
        self._selector.unregister(caller.link)
        self._unidentified.remove(caller)
        caller.peer.close()
        caller.link.close()
        for fd in caller.fds:
            os.close(fd)

    def _forget_slow_ones(self) -> None:
        for number, caller in list(self._callers.items()):
            if time.monotonic() - caller.since > REQUEST_S:
                if caller.fds:
                    self._cold += 1
                    why = f"no runtime ready within {REQUEST_S:g} s"
                    self._say("no warm runtime for the job", "warning", **self._about(caller), why=why)
                self._drop(number)

    def _hand_out(self) -> None:
        while self._ready and (waiting := [one for one in self._callers.values() if one.fds]):
            # the user's turn who has not had one for the longest time, so that none has all of them
            self._give(min(waiting, key=lambda one: self._turns.get(one.peer.uid, 0)))

    def _give(self, caller: StepProcess) -> None:
        about = self._about(caller)
        self._turns[caller.peer.uid] = self._given + self._cold + 1
        runtime, pid = self._ready.pop(0)
        self._selector.unregister(runtime)
        try:
            watched = os.pidfd_open(caller.peer.pid)
            try:
                job = assignment(caller)
                join_cgroups(caller.peer.pid, pid)
                if not caller.peer.is_alive():  # or else all this may be another's
                    raise ProcessLookupError("the step has ended")
                order = [caller.link.fileno(), watched, *caller.fds]
                socket.send_fds(runtime, [msgspec.json.encode(job)], order)
            finally:
                os.close(watched)
        except (OSError, ValueError) as error:
            self._cold += 1
            self._say("no warm runtime for the job", "warning", **about, why=str(error))
        else:
            self._given += 1
            self._refill_at = time.monotonic() + REFILL_AFTER_S
            took = (time.monotonic() - caller.since) * 1000
            self._say("warm runtime assigned", **about, ms=round(took, 1), pid=pid)
        runtime.close()
        self._drop(caller.link.fileno())


def serve(config: C2Config, *, step: Step | None = None) -> None:
    """Serve until SIGTERM, by default job steps.

    ConfigError if this is not root, or a module can't be imported.
    """
    if os.geteuid() != 0:
        raise ConfigError(
            "Permission denied: warm runtimes switch to the jobs' users. Run this service as root."
        )
    kernel.adopt_orphans()
    preload(config.runtimes.preload)
    service = WarmRuntimeService(config, step or partial(job_step, config), _say)
    put_client(config.runtimes)
    signal.signal(signal.SIGTERM, service.stop)
    signal.signal(signal.SIGINT, service.stop)
    _say("keeping runtimes warm", runtimes=config.runtimes.warm, socket=config.runtimes.socket)
    try:
        service.run()
    finally:
        take_client_away(config.runtimes)
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
