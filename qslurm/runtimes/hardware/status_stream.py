"""Listens to what a hardware server publishes, and takes it for gone when that stops."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qslurm.runtimes.hardware.messages import STATUS_LIMIT, Published, decode_publication
from qslurm.runtimes.health import Health

if TYPE_CHECKING:
    import zmq

_BATCH = 1000  # publications taken in at a time


class PublishedStatus:
    """What the publications so far mean. Times are given in, so that nothing here waits or looks at a clock.

    `patience_s` is how long the server may be silent; `now` is monotonic, `clock` Unix time.
    """

    def __init__(self, patience_s: float, now: float) -> None:
        self.state: Published | None = None
        self.since = now
        self.times = 0
        """How often the state has been published since it began, or since this was set to 0."""
        self._patience_s = patience_s
        self._last = now
        self._clock = 0.0

    def note(self, state: Published, now: float, clock: float) -> None:
        """The server has published a state."""
        if state != self.state or now > self._last + self._patience_s:
            self.state, self.since, self.times, self._clock = state, now, 0, clock
        self.times += 1
        self._last = now

    def silent(self, now: float) -> bool:
        """Whether nothing has come for too long, or nothing at all yet."""
        return self.state is None or now > self._last + self._patience_s

    def health(self, now: float) -> Health:
        """How the hardware is."""
        if self.state is None:
            return Health("offline", "no status received from the hardware yet")
        if self.silent(now):
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
    """A connection to the server's status port; what comes from there is noted in `heard`."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, patience_s: float) -> None:
        import zmq

        self.heard = PublishedStatus(patience_s, time.monotonic())
        self._socket = context.socket(zmq.SUB)
        self._socket.linger = 0
        self._socket.maxmsgsize = STATUS_LIMIT
        self._socket.subscribe(b"")
        self._socket.connect(endpoint)

    def listen(self) -> Health:
        """Take in what has come, without waiting, and say how the hardware is. Rubbish is no sign of life."""
        import zmq

        for _ in range(_BATCH):
            try:
                text = self._socket.recv_multipart(zmq.NOBLOCK)[-1]
            except zmq.Again:
                break
            state = decode_publication(text)
            if state is not None:
                self.heard.note(state, time.monotonic(), time.time())
        return self.heard.health(time.monotonic())

    def close(self) -> None:
        """Listen no more."""
        self._socket.close(linger=0)


def _clock_time(unix: float) -> str:
    return time.strftime("%H:%M:%S UTC", time.gmtime(unix))
