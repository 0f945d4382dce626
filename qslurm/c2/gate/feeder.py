"""Tells the job manager how the jobs on C2 are, as they change, for as long as some center follows.

It runs in the gate, as SlurmUser, because nobody else on C2 may see every center's jobs (PrivateData). A full look is
one squeue in its compact form; it comes soon after something has changed, which hooks say at once
(hooks/gate_notifier.py) and slurmctld within a second (change_detector.py).
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing

import msgspec

from qslurm.c2.config.file import C2Config
from qslurm.c2.gate.change_detector import ChangeDetector, activity_of
from qslurm.c2.gate.queue_reader import QueueReader
from qslurm.c2.hooks import gate_notifier
from qslurm.c2.slurm_commands import SlurmCommands
from qslurm.errors import QslurmError
from qslurm.protocol.feed import (
    MESSAGE_LIMIT,
    GateMessage,
    Subscription,
    Unavailable,
    Unchanged,
    subscription_decoder,
)
from qslurm.slurm.job_table import JobTable
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.unix_socket import connect_unix_socket

RETRY_S = 1.0
"""Between two tries to reach the job manager."""

SOON_S = 0.1
"""After a hook has notified: until then slurmctld has heard that the hook has ended."""

LATER_S = 0.5
"""When it is looked once more: for a job whose next state took slurmctld longer."""

SAME_SECOND_S = 1.1
"""When it is looked once more after a watch has told: slurmctld says in whole seconds when it has changed a job, so
nobody notices what changes in the rest of that second.
"""

BREATH = 3.0
"""A look is followed by a pause of so many times the CPU time it took, at least."""

SHORTEST_PAUSE_S = 0.15
STILL_S = 2.0
SURE_S = 0.05
"""Between two questions whether all is as it was, however many centers want to know."""

DEAF_S = 5.0
"""So long without a word of the watches, and it is looked without them, every so many seconds."""

CURRENT_S = 3.0
"""So long after slurmctld has said that no job has changed the jobs count as known."""

SEND_S = 10.0
WATCHES = 2
"""They take turns, so that a change is noticed within half a second."""


class Feeder:
    """A thread. `say` takes an event for the log, with its fields."""

    def __init__(self, config: C2Config, say: Callable[..., None]) -> None:
        self._path = config.jobmanager.feed
        self._state = config.gate.state
        self._slurm = SlurmCommands(config.slurm, timeout_s=20.0)
        self._say = say
        self._ours, self._theirs = os.pipe()
        self._stopping = False
        self._conversation: _FeedConnection | None = None
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    def queue(self) -> JobTable | None:
        """C2's jobs as they were at most CURRENT_S ago; None while nobody follows them. Any thread may ask."""
        conversation = self._conversation
        if conversation is None or time.monotonic() - conversation.current_at > CURRENT_S:
            return None
        return conversation.reader.table

    def start(self) -> None:
        """Begin, if the configuration says where the job manager listens."""
        if self._path:
            self._thread.start()

    def stop(self) -> None:
        """End, soon."""
        self._stopping = True
        os.write(self._theirs, b"!")
        if self._path:
            self._thread.join()
        os.close(self._ours)
        os.close(self._theirs)

    def _run(self) -> None:
        trouble = ""
        while not self._stopping:
            try:
                with (
                    BlockingConnection(connect_unix_socket(self._path, SEND_S), MESSAGE_LIMIT) as link,
                    closing(gate_notifier.listen(self._state)) as notified,
                ):
                    self._say("connected to the job manager", socket=self._path)
                    trouble = ""
                    self._conversation = _FeedConnection(self._slurm, link, notified, self._ours, self._say)
                    self._conversation.hold()
                    why = ""
            except EOFError:
                why = "connection closed"
            except (OSError, QslurmError) as error:
                why = str(error)
            except Exception as error:  # noqa: BLE001 -- a bug here must not cost the gate its life, or be silent
                why = f"{type(error).__name__}: {error}"
            self._conversation = None
            if why and why != trouble:
                self._say("cannot reach the job manager", "warning", why=why)
                trouble = why
            select.select([self._ours], [], [], RETRY_S)


class _FeedConnection:
    """With one job manager, until it hangs up (EOFError), does not listen (OSError), or we are told to stop."""

    def __init__(
        self,
        slurm: SlurmCommands,
        link: BlockingConnection,
        notified: socket.socket,
        stop: int,
        say: Callable[..., None],
    ) -> None:
        self._slurm, self._link, self._notified, self._stop, self._say = slurm, link, notified, stop, say
        self.reader = QueueReader(slurm)
        self.current_at = float("-inf")
        """When slurmctld's jobs were last known to be as they are in the reader's table."""

        self._watches: list[ChangeDetector] = []
        self._is_wanted = False
        self._asked = 0
        self._doubted, self._made_sure = float("inf"), float("-inf")
        """When it is to be found out whether all is as it was at the last look, and when it was."""
        self._activity: tuple[tuple[str, ...], ...] | None = None
        """Of slurmctld, when somebody last wanted to know how the jobs are now."""
        self._has_all = False
        self._due = self._once_more = float("inf")
        self._not_before = 0.0
        self._begun = 0.0
        self._spent = 0.0
        self._told = 0.0
        self._trouble = ""

    def hold(self) -> None:
        """Hold it."""
        try:
            while True:
                ready = self._wait()
                if self._stop in ready:
                    return
                now = time.monotonic()
                if self._link in ready:
                    self._want(subscription_decoder.decode(self._link.receive(now + SEND_S)[1]), now)
                if self._notified in ready:
                    self._heard_hook(now)
                for watch in [one for one in self._watches if one in ready]:
                    self._heard(watch, now)
                if self._is_wanted:
                    self._tell(now)
        finally:
            self._close_watches()

    def _wait(self) -> list[BlockingConnection | socket.socket | int | ChangeDetector]:
        now = time.monotonic()
        timeout = None
        if self._is_wanted:
            next_watch = self._begun + 1 / WATCHES if len(self._watches) < WATCHES else float("inf")
            next_look = min(max(self._due, self._not_before), self._doubted)
            timeout = min(next_look, self._told + STILL_S, next_watch) - now
        listened: list[BlockingConnection | socket.socket | int | ChangeDetector] = [
            self._link,
            self._stop,
            self._notified,
            *self._watches,
        ]
        ready, _, _ = select.select(listened, [], [], None if timeout is None else max(0.0, timeout))
        return ready

    def _want(self, message: Subscription, now: float) -> None:
        if message.look > self._asked:
            self._asked = message.look
            self._doubted = min(self._doubted, max(now, self._made_sure + SURE_S))
        if message.wanted == self._is_wanted:
            return
        self._is_wanted, self.current_at = message.wanted, float("-inf")
        self._close_watches()
        self._due, self._doubted = now if message.wanted else float("inf"), float("inf")

    def _make_sure(self, now: float) -> None:
        """Say that nothing has changed since the last look, or have it looked."""
        self._doubted, self._made_sure = float("inf"), now
        if self._is_up_to_date():
            self._send(Unchanged(self._asked))
        else:
            self._due = min(self._due, now)

    def _is_up_to_date(self) -> bool:
        """Whether a look would find nothing new: slurmctld's own numbers say so for a thirtieth of its cost."""
        before, self._activity = self._activity, None
        try:
            self._activity = activity_of(self._slurm.statistics())
        except QslurmError:  # the look will say what is wrong, or does without
            return False
        return self._has_all and not self._is_due() and self._activity == before

    def _is_due(self) -> bool:
        return min(self._due, self._once_more) < float("inf")

    def _heard_hook(self, now: float) -> None:
        self._notified.recv(16)
        self._due = min(self._due, now + SOON_S)
        self._look_again(now + LATER_S)

    def _heard(self, watch: ChangeDetector, now: float) -> None:
        try:
            if watch.changed():
                self._due = min(self._due, now)
                self._look_again(now + SAME_SECOND_S)
            elif self._has_all and not self._is_due():
                self.current_at = max(self.current_at, watch.heard)
        except OSError:  # it has ended; another is begun
            watch.close()
            self._watches.remove(watch)

    def _look_again(self, when: float) -> None:
        """Once more after the next look, and not before then."""
        self._once_more = when if self._once_more == float("inf") else max(self._once_more, when)

    def _tell(self, now: float) -> None:
        self._keep_watch(now)
        if now >= self._doubted:
            self._make_sure(now)
        if now < max(self._due, self._not_before):
            if now - self._told >= STILL_S and not self._trouble:
                self._send(Unchanged())
            return
        self._due, self._once_more = min(self._once_more, self._next_blind_look(now)), float("inf")
        self._look()

    def _next_blind_look(self, now: float) -> float:
        """While the watches are silent it is looked all the same, but no more than a tenth of the time."""
        if any(now - watch.heard < DEAF_S for watch in self._watches):
            return float("inf")
        return now + max(DEAF_S, 10 * self._spent)

    def _look(self) -> None:
        before_s, began, asked, self._doubted = self._cpu_s(), time.monotonic(), self._asked, float("inf")
        update: GateMessage | None
        try:
            update = self.reader.read()
        except QslurmError as error:
            self._due = time.monotonic() + STILL_S
            if str(error) != self._trouble:
                self._say("trouble", "warning", about="feed", why=str(error))
            self._trouble = str(error)
            self.current_at = float("-inf")
            self._send(Unavailable(error.message))
            return
        if not self._has_all:
            update, self._has_all = self.reader.everything(), True
        update = update or Unchanged()
        update.look = asked
        self._send(update)
        self._trouble = ""
        self.current_at = began
        self._spent = self._cpu_s() - before_s
        self._not_before = time.monotonic() + max(SHORTEST_PAUSE_S, BREATH * self._spent)

    def _send(self, message: GateMessage) -> None:
        self._link.send(msgspec.msgpack.encode(message), time.monotonic() + SEND_S)
        self._told = time.monotonic()

    def _keep_watch(self, now: float) -> None:
        """Begin what is missing, half a second apart."""
        if len(self._watches) < WATCHES and now - self._begun >= 1 / WATCHES:
            self._begun = now
            self._watches.append(ChangeDetector(self._slurm))

    def _close_watches(self) -> None:
        for watch in self._watches:
            watch.close()
        self._watches = []

    def _cpu_s(self) -> float:
        """The CPU time of this thread and of its commands. On a busy machine a look takes longer than it costs, and a
        pause by the clock would let users wait for nothing.
        """
        return time.thread_time() + self._slurm.cpu_s
