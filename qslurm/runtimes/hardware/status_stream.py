"""Receives the state that a hardware server publishes; a server that stops publishing counts as offline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qslurm.runtimes.hardware.messages import STATUS_LIMIT, PublishedState, decode_publication
from qslurm.runtimes.health import Health

if TYPE_CHECKING:
    import zmq

_BATCH = 1000  # messages received at a time


class PublishedStatus:
    """What the messages received so far mean. Times are passed in: nothing here waits or reads a clock.

    `patience_s` is how long the server may be silent; `now` is monotonic, `clock` Unix time.
    """

    def __init__(self, patience_s: float, now: float) -> None:
        self.state: PublishedState | None = None
        self.since = now
        self.repeats = 0
        """How often the state has been published since it began, or since this was set to 0."""
        self._patience_s = patience_s
        self._last = now
        self._clock = 0.0

    def note(self, state: PublishedState, now: float, clock: float) -> None:
        """The server has published a state."""
        if state != self.state or now > self._last + self._patience_s:
            self.state, self.since, self.repeats, self._clock = state, now, 0, clock
        self.repeats += 1
        self._last = now

    def is_silent(self, now: float) -> bool:
        """Whether no message has arrived for too long, or none at all."""
        return self.state is None or now > self._last + self._patience_s

    def health(self, now: float) -> Health:
        """The hardware's health."""
        if self.state is None:
            return Health("offline", "no status received from the hardware yet")
        if self.is_silent(now):
            last = _clock_time(self._clock + self._last - self.since)
            return Health("offline", f"no status received from the hardware since {last}")
        match self.state:
            case "OFFLINE":
                return Health("offline", f"reported by the hardware since {_clock_time(self._clock)}")
            case "CALIBRATING":
                return Health("calibrating", f"since {_clock_time(self._clock)}")
            case "EXECUTING":
                return Health("executing")
            case "IDLE":
                return Health("idle")


class StatusStream:
    """A connection to the server's status port; `status` holds what it has published."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, patience_s: float) -> None:
        import zmq

        self.status = PublishedStatus(patience_s, time.monotonic())
        self._socket = context.socket(zmq.SUB)
        self._socket.linger = 0
        self._socket.maxmsgsize = STATUS_LIMIT
        self._socket.subscribe(b"")
        self._socket.connect(endpoint)

    def receive(self) -> Health:
        """Process the messages that have arrived, without waiting, and return the hardware's health. Invalid
        messages are ignored.
        """
        import zmq

        for _ in range(_BATCH):
            try:
                text = self._socket.recv_multipart(zmq.NOBLOCK)[-1]
            except zmq.Again:
                break
            state = decode_publication(text)
            if state is not None:
                self.status.note(state, time.monotonic(), time.time())
        return self.status.health(time.monotonic())

    def close(self) -> None:
        """Close the connection."""
        self._socket.close(linger=0)


def _clock_time(unix: float) -> str:
    return time.strftime("%H:%M:%S UTC", time.gmtime(unix))
