"""Sends the outbox's submissions to C2, several at a time.

With one connection each submission would wait for a round trip of its own. Each thread sends every n-th submission, in
order, so no submission is ever sent by two threads.
"""

from __future__ import annotations

import threading
import time
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from qslurm.c1.agent.delivery import deliver, with_present_ids
from qslurm.c1.connection.agent_messages import Submission
from qslurm.errors import (
    InvalidInputError,
    NoRoomError,
    PermissionDeniedError,
    QslurmError,
    RefusedError,
    UncertainError,
)
from qslurm.system.backoff import Backoff
from qslurm.system.event_log import EventLog
from qslurm.wire.failures import failure

if TYPE_CHECKING:
    from qslurm.c1.agent.outbox import Entry, Outbox
    from qslurm.c1.connection.center_connection import CenterConnection

log = EventLog(__name__)

SENDERS = 8
"""Number of threads: slurmctld handles one submission at a time, but half of the threads wait for the disk."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
FINAL = (RefusedError, InvalidInputError, PermissionDeniedError)
"""Errors that are final; all others are retried."""


class SenderThread:
    """Sends the submissions whose number modulo `count` is `index`.

    `answered` is called with the key of each submission that C2 has accepted or refused, and its state or error.
    """

    def __init__(
        self,
        outbox: Outbox,
        connect: Callable[[], CenterConnection],
        answered: Callable[[str, Submission | QslurmError], None],
        *,
        index: int = 0,
        count: int = 1,
    ) -> None:
        self._share = (index, count)
        self._outbox = outbox
        self._connect = connect
        self._answered = answered
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sender")
        self._pauses: dict[int, tuple[float, Backoff]] = {}  # submissions of unknown outcome: next retry
        self.trouble: dict[str, str] = {}
        """Why submissions are not sent yet, by key."""

    def start(self) -> None:
        """Start, beginning with submissions left by a previous agent."""
        self._thread.start()

    def stop_soon(self) -> None:
        """Start no more submissions."""
        self._stopping.set()
        self._wake.set()

    def stop(self) -> None:
        """Wait for the current submission to finish."""
        self.stop_soon()
        self._thread.join()

    def wake(self) -> None:
        """Wake the sender: the outbox has a new submission."""
        self._wake.set()

    def _run(self) -> None:
        center = self._connect()
        backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        while True:
            self._wake.clear()
            if self._stopping.is_set():  # checked after clear(), so that no stop is missed
                break
            pause = 0.0
            try:
                is_reachable = self._send_all(center)
            except NoRoomError as error:  # those being sent are looked up by key later
                log.warning("cannot submit", reason=error.message, pause_s=LONGEST_PAUSE_S)
                is_reachable, pause = False, LONGEST_PAUSE_S
            except Exception as error:  # noqa: BLE001 -- a bug: retrying loses nothing
                log.crashed("sending failed", error, pause_s=LONGEST_PAUSE_S)
                is_reachable, pause = False, LONGEST_PAUSE_S
            if is_reachable:
                backoff.succeed()
                self._wake.wait(self._until_next())
            else:
                center.close()
                self._stopping.wait(max(pause, backoff.fail()))
        center.close()

    def _send_all(self, center: CenterConnection) -> bool:
        """Send all that are due; False if C2 is unreachable."""
        after = 0
        unsent: set[int] = set()
        while not self._stopping.is_set() and (entry := self._outbox.next_to_send(after, *self._share)):
            after = entry.number
            unsent.add(after)
            if entry.number in self._pauses and self._pauses[entry.number][0] > time.monotonic():
                continue
            try:
                if not self._send(center, entry):
                    return False
            except QslurmError:
                raise
            except Exception as error:  # noqa: BLE001 -- a bug must not block other submissions
                if entry.key not in self.trouble:
                    log.crashed("cannot send a submission", error, key=entry.key, user=entry.user)
                self._postpone(
                    entry, UncertainError("The center's agent failed to send it. Tell the center's admins.")
                )
        # forget those cancelled meanwhile, which would stay due
        self._pauses = {number: pause for number, pause in self._pauses.items() if number in unsent}
        return True

    def _send(self, center: CenterConnection, entry: Entry) -> bool:
        """Send one submission; False if C2 is unreachable."""
        maybe_sent = entry.state == "sending"
        payload = with_present_ids(
            entry.payload, lambda job_id: self._outbox.current_job_id(job_id, entry.number)
        )
        if payload is None:
            self._postpone(entry, UncertainError("A job that it depends on is being resubmitted."))
            return True
        if not self._outbox.mark_sending(entry.number):
            return True
        try:
            submitted = deliver(center.slurm, payload, entry.key, maybe_sent=maybe_sent)
        except UncertainError as error:
            self._postpone(entry, error)
            return True
        except FINAL as error:
            outcome: Submission | QslurmError = error
            self._outbox.mark_refused(entry.number, stored_error(error))
            log.info("refused", key=entry.key, user=entry.user, reason=error.message)
        except QslurmError as error:  # C2 is unreachable, or rejects the token: nothing was sent
            if not maybe_sent:
                self._outbox.mark_waiting(entry.number)
            self._postpone(entry, error)
            return False
        else:
            outcome = Submission("accepted", submitted.job_id, submitted.warnings, submitted.message)
            answer = {"warnings": submitted.warnings, "message": submitted.message}
            self._outbox.mark_accepted(entry.number, submitted.job_id, answer)
            log.info("accepted", job=submitted.job_id, key=entry.key, user=entry.user)
        self._pauses.pop(entry.number, None)
        self.trouble.pop(entry.key, None)
        self._answered(entry.key, outcome)
        return True

    def _postpone(self, entry: Entry, error: QslurmError) -> None:
        if isinstance(error, UncertainError):
            known = self._pauses.get(entry.number)
            backoff = known[1] if known else Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
            self._pauses[entry.number] = (time.monotonic() + backoff.fail(), backoff)
        if self.trouble.get(entry.key) != error.message:
            log.warning("waits", key=entry.key, user=entry.user, reason=error.message)
        self.trouble[entry.key] = error.message

    def _until_next(self) -> float | None:
        """Seconds until the next retry; None if nothing is waiting."""
        if not self._pauses:
            return None
        return max(0.0, min(due for due, _ in self._pauses.values()) - time.monotonic())


class SenderPool:
    """The sender threads. Any of them calls `answered`."""

    def __init__(
        self,
        outbox: Outbox,
        connect: Callable[[], CenterConnection],
        answered: Callable[[str, Submission | QslurmError], None],
        *,
        count: int = SENDERS,
    ) -> None:
        self._senders = [
            SenderThread(outbox, connect, answered, index=index, count=count) for index in range(count)
        ]
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

    def wake(self, number: int | None = None) -> None:
        """Wake the sender of this submission, or all senders."""
        for sender in self._senders if number is None else [self._senders[number % len(self._senders)]]:
            sender.wake()


def stored_error(error: QslurmError) -> dict[str, object]:
    """An error as stored in the outbox."""
    import msgspec

    return dict(msgspec.to_builtins(failure(error)))
