"""Several concurrent senders, each with a persistent connection.

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
    from qslurm.c1.connection.center_connection import CenterConnection

LANES = 8
"""Number of senders: slurmctld handles one submission at a time, but half of the senders wait for the disk."""


class SenderThreads:
    """The senders. `done` is called by any of them with each key that C2 has answered."""

    def __init__(
        self,
        outbox: Outbox,
        connect: Callable[[], CenterConnection],
        done: Callable[[str], None],
        *,
        lanes: int = LANES,
    ) -> None:
        self._senders = [Sender(outbox, connect, done, lane=lane, lanes=lanes) for lane in range(lanes)]
        self.trouble: Mapping[str, str] = ChainMap(*(sender.trouble for sender in self._senders))
        """Why submissions are not sent yet, by key."""

    def start(self) -> None:
        """Start, beginning with submissions left by a previous agent."""
        for sender in self._senders:
            sender.start()

    def stop(self) -> None:
        """Wait for the current submissions to finish."""
        for sender in self._senders:
            sender.stop_soon()
        for sender in self._senders:
            sender.stop()

    def look(self, number: int | None = None) -> None:
        """Wake the sender of this submission, or all senders."""
        for sender in self._senders if number is None else [self._senders[number % len(self._senders)]]:
            sender.look()
