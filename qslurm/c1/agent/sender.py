"""Sends the outbox's submissions, or every n-th of them, in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from qslurm.c1.agent.delivery import deliver, with_present_ids
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

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
FINAL = (RefusedError, InvalidInputError, PermissionDeniedError)
"""Errors that are final; all others are retried."""


class Sender:
    """A sender thread. `done` is called with the key of each submission that C2 has answered.

    It takes every submission, or those of one lane: of `lanes`, the one that their numbers fall into.
    """

    def __init__(
        self,
        outbox: Outbox,
        connect: Callable[[], CenterConnection],
        done: Callable[[str], None],
        *,
        lane: int = 0,
        lanes: int = 1,
    ) -> None:
        self._lane = (lane, lanes)
        self._outbox = outbox
        self._connect = connect
        self._done = done
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sender")
        self._pauses: dict[int, tuple[float, Backoff]] = {}  # number: not before, of those nobody is sure of
        self.trouble: dict[str, str] = {}
        """Why submissions are not sent yet, by key."""

    def start(self) -> None:
        """Start, beginning with submissions left by a previous agent."""
        self._thread.start()

    def stop_soon(self) -> None:
        """Start no more submissions."""
        self._stopping.set()
        self._news.set()

    def stop(self) -> None:
        """Wait for the current submission to finish."""
        self.stop_soon()
        self._thread.join()

    def look(self) -> None:
        """Wake the sender: the outbox has a new submission."""
        self._news.set()

    def _run(self) -> None:
        center = self._connect()
        backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        while True:
            self._news.clear()
            if self._stopping.is_set():  # looked at after the bell is reset, or its last ring is missed
                break
            pause = 0.0
            try:
                is_there = self._send_all(center)
            except NoRoomError as error:  # what was sent meanwhile is looked up by its key when there is room
                log.warning("cannot submit", reason=error.message, pause_s=LONGEST_PAUSE_S)
                is_there, pause = False, LONGEST_PAUSE_S
            except Exception as error:  # noqa: BLE001 -- a bug: nothing is lost by trying again
                log.crashed("sending failed", error, pause_s=LONGEST_PAUSE_S)
                is_there, pause = False, LONGEST_PAUSE_S
            if is_there:
                backoff.succeed()
                self._news.wait(self._until_next())
            else:
                center.close()
                self._stopping.wait(max(pause, backoff.fail()))
        center.close()

    def _send_all(self, center: CenterConnection) -> bool:
        """Send what is due; whether C2 is reachable."""
        after = 0
        there: set[int] = set()
        while not self._stopping.is_set() and (entry := self._outbox.next_to_send(after, *self._lane)):
            after = entry.number
            there.add(after)
            if entry.number in self._pauses and self._pauses[entry.number][0] > time.monotonic():
                continue
            try:
                if not self._send(center, entry):
                    return False
            except QslurmError:
                raise
            except Exception as error:  # noqa: BLE001 -- a bug that one submission meets must not hold up all others
                if entry.key not in self.trouble:
                    log.crashed("cannot send a submission", error, key=entry.key, user=entry.user)
                self._wait(
                    entry, UncertainError("The center's agent failed to send it. Tell the center's admins.")
                )
        # one that was given up meanwhile would be due for ever
        self._pauses = {number: pause for number, pause in self._pauses.items() if number in there}
        return True

    def _send(self, center: CenterConnection, entry: Entry) -> bool:
        """Send one submission; whether C2 is reachable."""
        unsure = entry.state == "sending"
        payload = with_present_ids(entry.payload, lambda job_id: self._outbox.now(job_id, entry.number))
        if payload is None:
            self._wait(entry, UncertainError("A job that it depends on is being resubmitted."))
            return True
        if not self._outbox.sending(entry.number):
            return True
        try:
            submitted = deliver(center.slurm, payload, entry.key, unsure=unsure)
        except UncertainError as error:
            self._wait(entry, error)
            return True
        except FINAL as error:
            self._outbox.refused(entry.number, vars_of(error))
            log.info("refused", key=entry.key, user=entry.user, reason=error.message)
        except QslurmError as error:  # C2 is away, or takes no token: it has heard nothing
            if not unsure:
                self._outbox.put_back(entry.number)
            self._wait(entry, error)
            return False
        else:
            answer = {"warnings": submitted.warnings, "message": submitted.message}
            self._outbox.accepted(entry.number, submitted.job_id, answer)
            log.info("accepted", job=submitted.job_id, key=entry.key, user=entry.user)
        self._pauses.pop(entry.number, None)
        self.trouble.pop(entry.key, None)
        self._done(entry.key)
        return True

    def _wait(self, entry: Entry, error: QslurmError) -> None:
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


def vars_of(error: QslurmError) -> dict[str, object]:
    """An error as stored in the outbox."""
    import msgspec

    return dict(msgspec.to_builtins(failure(error)))
