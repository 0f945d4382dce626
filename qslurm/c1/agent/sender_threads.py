"""Several submissions on their way at once, each over a connection that is kept.

A center is far from C2, and one after the other each would wait for a round trip of its own. A submission is in one
lane only, by its number, so no two threads ever send the same.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from qslurm.c1.agent.sender import Sender

if TYPE_CHECKING:
    from qslurm.c1.agent.outbox import Outbox
    from qslurm.c1.connection.center import Center

LANES = 8
"""slurmctld takes submissions one by one, but each is written down twice here, and half of them wait for the disk."""


class SenderThreads:
    """As many senders as there are lanes. `done` is called, by any of them, with each key that C2 has answered for."""

    def __init__(
        self,
        outbox: Outbox,
        connect: Callable[[], Center],
        done: Callable[[str], None],
        *,
        lanes: int = LANES,
    ) -> None:
        self._senders = [Sender(outbox, connect, done, lane=lane, lanes=lanes) for lane in range(lanes)]
        self.trouble: Mapping[str, str] = ChainMap(*(sender.trouble for sender in self._senders))
        """Why a submission is still here, by its key."""

    def start(self) -> None:
        """Begin, with what the last agent has left."""
        for sender in self._senders:
            sender.start()

    def stop(self) -> None:
        """End when the submissions in hand are through."""
        for sender in self._senders:
            sender.stop_soon()
        for sender in self._senders:
            sender.stop()

    def look(self, number: int | None = None) -> None:
        """There is something new in the outbox: the submission with this number, or anything."""
        for sender in self._senders if number is None else [self._senders[number % len(self._senders)]]:
            sender.look()
