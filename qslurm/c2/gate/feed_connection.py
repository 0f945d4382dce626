"""One connection of the gate to the job manager: reads C2's queue when it may have changed, and sends what is new."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from qslurm.c2.gate.change_detector import ChangeDetector, activity_of
from qslurm.c2.gate.queue_reader import QueueReader
from qslurm.c2.slurm_commands import SlurmCommands
from qslurm.errors import QslurmError
from qslurm.protocol.feed import GateMessage, Subscription, Unavailable, Unchanged, subscription_decoder
from qslurm.wire.blocking import BlockingConnection

PAUSE_RATIO = 3.0
"""A reading is followed by a pause of at least this many times the CPU time it took."""

SHORTEST_PAUSE_S = 0.15

SEND_S = 10.0
"""Time limit of one message to or from the job manager."""


@dataclass(frozen=True)
class FeederTimings:
    """When the queue is read (seconds)."""

    after_hook_s: float = 0.1
    """From a hook's notification to a reading: slurmctld needs it to notice that the hook has ended."""

    second_reading_s: float = 0.5
    """From a hook's notification to a second reading, for a job whose next state takes slurmctld longer."""

    same_second_s: float = 1.1
    """From a detected change to a second reading: slurmctld gives the time of its last change in whole seconds, so
    a detector misses further changes in the same second.
    """

    still_s: float = 2.0
    """Between two messages to the job manager while nothing changes."""

    check_s: float = 0.05
    """Between two checks with slurmctld whether anything has changed, however many centers ask."""

    undetected_s: float = 5.0
    """Without an answer of slurmctld to the detectors for so long, the queue is read without them."""

    detectors: int = 2
    """They poll slurmctld in turn, so that a change is noticed within half a second."""


class FeedConnection:
    """Reports until the job manager closes the connection (EOFError) or stops reading (OSError).

    `notified` is readable after a hook's notification, `stop` when the gate stops. `say` logs an event with its fields.
    """

    def __init__(
        self,
        link: BlockingConnection,
        notified: socket.socket,
        stop: int,
        *,
        slurm: SlurmCommands,
        say: Callable[..., None],
        timings: FeederTimings,
        detect: Callable[[SlurmCommands], ChangeDetector],
    ) -> None:
        self._link, self._notified, self._stop = link, notified, stop
        self._slurm, self._say, self._timings, self._detect = slurm, say, timings, detect
        self.reader = QueueReader(slurm)
        self.current_at = float("-inf")
        """When the reader's table was last known to be what slurmctld has."""

        self._detectors: list[ChangeDetector] = []
        self._detector_started_at = 0.0
        self._is_wanted = False
        self._request = 0
        """Number of the job manager's last request for the current state."""

        self._check_at, self._checked_at = float("inf"), float("-inf")
        """When to check with slurmctld whether anything has changed, and when that was last done."""

        self._activity: tuple[tuple[str, ...], ...] | None = None
        """slurmctld's counters at the last check."""

        self._has_sent_all = False
        self._read_at = self._second_reading_at = float("inf")
        self._not_before = 0.0
        self._reading_cpu_s = 0.0
        self._sent_at = 0.0
        self._trouble = ""

    def serve(self) -> None:
        """Report until the gate stops."""
        try:
            while True:
                ready = self._wait()
                if self._stop in ready:
                    return
                now = time.monotonic()
                if self._link in ready:
                    self._handle_request(
                        subscription_decoder.decode(self._link.receive(now + SEND_S)[1]), now
                    )
                if self._notified in ready:
                    self._handle_notification(now)
                for detector in [one for one in self._detectors if one in ready]:
                    self._handle_detector(detector, now)
                if self._is_wanted:
                    self._report(now)
        finally:
            self._close_detectors()

    def _wait(self) -> list[BlockingConnection | socket.socket | int | ChangeDetector]:
        now = time.monotonic()
        timeout = None
        if self._is_wanted:
            next_reading = min(max(self._read_at, self._not_before), self._check_at)
            next_still = self._sent_at + self._timings.still_s
            timeout = max(0.0, min(next_reading, next_still, self._next_detector_at()) - now)
        sources: list[BlockingConnection | socket.socket | int | ChangeDetector] = [
            self._link,
            self._stop,
            self._notified,
            *self._detectors,
        ]
        ready, _, _ = select.select(sources, [], [], timeout)
        return ready

    def _handle_request(self, message: Subscription, now: float) -> None:
        if message.request > self._request:
            self._request = message.request
            self._check_at = min(self._check_at, max(now, self._checked_at + self._timings.check_s))
        if message.wanted == self._is_wanted:
            return
        self._is_wanted, self.current_at = message.wanted, float("-inf")
        self._close_detectors()
        self._read_at, self._check_at = now if message.wanted else float("inf"), float("inf")

    def _handle_notification(self, now: float) -> None:
        self._notified.recv(16)
        self._read_at = min(self._read_at, now + self._timings.after_hook_s)
        self._read_again_at(now + self._timings.second_reading_s)

    def _handle_detector(self, detector: ChangeDetector, now: float) -> None:
        try:
            if detector.changed():
                self._read_at = min(self._read_at, now)
                self._read_again_at(now + self._timings.same_second_s)
            elif self._has_sent_all and not self._is_reading_due():
                self.current_at = max(self.current_at, detector.answered_at)
        except OSError:  # it has ended; another one is started
            detector.close()
            self._detectors.remove(detector)

    def _read_again_at(self, when: float) -> None:
        """Read once more after the next reading, and not before `when`."""
        is_set = self._second_reading_at < float("inf")
        self._second_reading_at = max(self._second_reading_at, when) if is_set else when

    def _report(self, now: float) -> None:
        if now >= self._next_detector_at():
            self._detector_started_at = now
            self._detectors.append(self._detect(self._slurm))
        if now >= self._check_at:
            self._check(now)
        if now >= max(self._read_at, self._not_before):
            self._read_at = min(self._second_reading_at, self._next_undetected(now))
            self._second_reading_at = float("inf")
            self._read()
        elif now - self._sent_at >= self._timings.still_s and not self._trouble:
            self._send(Unchanged())

    def _check(self, now: float) -> None:
        """Report that nothing has changed since the last reading, or read the queue."""
        self._check_at, self._checked_at = float("inf"), now
        if self._is_up_to_date():
            self._send(Unchanged(self._request))
        else:
            self._read_at = min(self._read_at, now)

    def _is_up_to_date(self) -> bool:
        """Whether a reading would find nothing new, by slurmctld's counters: a thirtieth of a reading's cost."""
        before, self._activity = self._activity, None
        try:
            self._activity = activity_of(self._slurm.statistics())
        except QslurmError:  # the reading reports the error, or works without
            return False
        return self._has_sent_all and not self._is_reading_due() and self._activity == before

    def _is_reading_due(self) -> bool:
        return min(self._read_at, self._second_reading_at) < float("inf")

    def _next_undetected(self, now: float) -> float:
        """When to read although no detector reports a change: while they are silent, a tenth of the time at most."""
        limit_s = self._timings.undetected_s
        if any(now - detector.answered_at < limit_s for detector in self._detectors):
            return float("inf")
        return now + max(limit_s, 10 * self._reading_cpu_s)

    def _read(self) -> None:
        cpu_s, started_at, request = self._cpu_s(), time.monotonic(), self._request
        self._check_at = float("inf")
        update: GateMessage | None
        try:
            update = self.reader.read()
        except QslurmError as error:
            self._read_at = time.monotonic() + self._timings.still_s
            if str(error) != self._trouble:
                self._say("trouble", "warning", about="feed", why=str(error))
            self._trouble = str(error)
            self.current_at = float("-inf")
            self._send(Unavailable(error.message))
            return
        if not self._has_sent_all:
            update, self._has_sent_all = self.reader.everything(), True
        update = update or Unchanged()
        update.request = request
        self._send(update)
        self._trouble = ""
        self.current_at = started_at
        self._reading_cpu_s = self._cpu_s() - cpu_s
        self._not_before = time.monotonic() + max(SHORTEST_PAUSE_S, PAUSE_RATIO * self._reading_cpu_s)

    def _send(self, message: GateMessage) -> None:
        self._link.send(msgspec.msgpack.encode(message), time.monotonic() + SEND_S)
        self._sent_at = time.monotonic()

    def _next_detector_at(self) -> float:
        """When to start the next detector; they start in turn, so that they poll in turn."""
        wanted_detectors = self._timings.detectors
        if len(self._detectors) >= wanted_detectors:
            return float("inf")
        return self._detector_started_at + 1 / wanted_detectors

    def _close_detectors(self) -> None:
        for detector in self._detectors:
            detector.close()
        self._detectors = []

    def _cpu_s(self) -> float:
        """CPU time of this thread and its commands: on a busy machine, elapsed time would make pauses too long."""
        return time.thread_time() + self._slurm.cpu_s
