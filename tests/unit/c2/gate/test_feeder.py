"""The gate tells how the jobs are: everything once, and then what changes."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from qslurm.c2.config.file import C2Config, GateConfig, SlurmConfig
from qslurm.c2.config.jobmanager_section import JobManagerConfig
from qslurm.c2.gate.change_detector import ChangeWatcher, activity_of
from qslurm.c2.gate.feed_connection import FeederTimings
from qslurm.c2.gate.feeder import Feeder
from qslurm.c2.gate.queue_reader import QueueReader
from qslurm.c2.hooks import gate_notifier
from qslurm.errors import QslurmError, UnreachableError
from qslurm.protocol.feed import (
    MESSAGE_LIMIT,
    GateMessage,
    Subscription,
    Unavailable,
    Unchanged,
    Update,
    gate_decoder,
)
from qslurm.slurm.squeue_output import USER_COLUMNS
from qslurm.wire.blocking import BlockingConnection
from tests.unit.waiting import until

LINE = "{}|{}|{}|p_qx|center_snellius|snellius|normal|{}|N/A|N/A|0|0|5:00|{}|N/A|7||N/A|\n"


class Slurm:
    """Has jobs, and prints them as squeue does."""

    def __init__(self) -> None:
        self.jobs: dict[int, tuple[str, str, int, str]] = {}
        self.asked: list[list[int]] = []
        self.away = False
        self.forgets: int | None = None
        self.looks = 0
        self.submitted = self.counted = 0
        self.cpu_s = 0.0

    def put(self, job_id: int, state: str, *, submit: int = 1, name: str = "bell", reason: str = "") -> None:
        self.jobs[job_id] = (state, reason, submit, name)

    def listing(self) -> bytes:
        self.looks += 1
        if self.away:
            raise UnreachableError("slurmctld does not answer")
        lines = [
            LINE.format(job_id, state, reason or "None", submit, job_id)
            for job_id, (state, reason, submit, _) in self.jobs.items()
        ]
        if self.forgets is not None:
            self.jobs.pop(self.forgets, None)
        return "".join(lines).encode()

    def statistics(self) -> str:
        self.counted += 1
        return f"Jobs submitted: {self.submitted}\n"

    def words(self, job_ids: list[int]) -> bytes:
        self.asked.append(sorted(job_ids))
        sizes = [size for _, size in USER_COLUMNS]
        return b"".join(
            f"{job_id}|{name:{sizes[0]}}{f'qslurm key=k{job_id}':{sizes[1]}}{'':{sizes[2]}}\n".encode()
            for job_id, (_, _, _, name) in self.jobs.items()
        )


def told(update: Update | None) -> list[tuple[int, str, str]]:
    assert update is not None
    return [(row.job_id, row.state, row.name) for row in update.rows]


def test_what_has_not_changed_is_not_told_again() -> None:
    slurm = Slurm()
    jobs = QueueReader(slurm)  # type: ignore[arg-type]
    slurm.put(1, "PENDING")
    slurm.put(2, "PENDING")
    assert told(jobs.read()) == [(1, "PENDING", "bell"), (2, "PENDING", "bell")]
    assert jobs.read() is None
    slurm.put(2, "RUNNING")
    assert told(jobs.read()) == [(2, "RUNNING", "bell")]
    del slurm.jobs[1]
    update = jobs.read()
    assert update is not None
    assert (update.rows, update.gone) == ([], [1])
    assert told(jobs.everything()) == [(2, "RUNNING", "bell")]


def test_names_are_asked_for_once_and_when_the_job_is_another_or_was_cancelled() -> None:
    slurm = Slurm()
    jobs = QueueReader(slurm)  # type: ignore[arg-type]
    slurm.put(1, "PENDING")
    jobs.read()
    slurm.put(1, "RUNNING")
    jobs.read()
    assert slurm.asked == [[1]]
    slurm.put(1, "PENDING", submit=2, name="another")
    assert told(jobs.read()) == [(1, "PENDING", "another")]
    slurm.put(1, "CANCELLED", submit=2, name="another")
    jobs.read()
    assert slurm.asked == [[1], [1], [1]]


def test_a_job_that_is_forgotten_between_two_questions_is_not_told_of() -> None:
    slurm = Slurm()
    jobs = QueueReader(slurm)  # type: ignore[arg-type]
    slurm.put(1, "PENDING")
    slurm.put(2, "PENDING")
    slurm.forgets = 2
    assert told(jobs.read()) == [(1, "PENDING", "bell")]
    slurm.forgets = None
    assert jobs.read() is None


class Watch:
    """Reports one change: slurmctld has one time for all that changes in a second."""

    def __init__(self, slurm: object) -> None:
        del slurm
        self.answered_at = time.monotonic()
        self._ours, theirs = os.pipe()
        os.close(theirs)  # there is something to read at once
        self._reported = False

    def fileno(self) -> int:
        return self._ours

    def changed(self) -> bool:
        before, self._reported = self._reported, True
        return not before

    def close(self) -> None:
        os.close(self._ours)


@pytest.fixture
def timings() -> FeederTimings:
    return FeederTimings(detectors=0, still_s=0.02)


@pytest.fixture
def one(home: Path, slurm: Slurm, timings: FeederTimings) -> Feeder:
    config = C2Config(
        slurm=SlurmConfig(),
        gate=GateConfig(state=str(home)),
        jobmanager=JobManagerConfig(feed=str(home / "feed.sock")),
    )
    return Feeder(config, lambda *_, **__: None, slurm, timings=timings, detect=Watch)  # type: ignore[arg-type]


@pytest.fixture
def slurm() -> Slurm:
    return Slurm()


@pytest.fixture
def gate(
    home: Path, slurm: Slurm, one: Feeder
) -> Iterator[tuple[Slurm, BlockingConnection, Callable[[], None]]]:
    """A feeder's Slurm, the job manager's end of its connection, and a hook's notification."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(home / "feed.sock"))
    listener.listen()
    one.start()
    link = BlockingConnection(listener.accept()[0], MESSAGE_LIMIT)
    yield slurm, link, lambda: gate_notifier.notify(str(home))
    link.close()
    one.stop()
    listener.close()
    assert threading.active_count() < 100


def say(link: BlockingConnection, message: Subscription) -> None:
    link.send(msgspec.msgpack.encode(message), time.monotonic() + 60)


def hear(link: BlockingConnection, *kinds: type) -> GateMessage:
    """The next message of these kinds."""
    while not isinstance(message := gate_decoder.decode(link.receive(time.monotonic() + 60)[1]), kinds):
        pass
    return message


def test_the_job_manager_hears_everything_then_changes_then_why_it_hears_nothing(
    gate: tuple[Slurm, BlockingConnection, Callable[[], None]],
) -> None:
    slurm, link, ring = gate
    slurm.put(1, "PENDING")
    say(link, Subscription(True))
    first = hear(link, Update)
    assert isinstance(first, Update)
    assert first.reset
    assert told(first) == [(1, "PENDING", "bell")]
    slurm.put(1, "RUNNING")
    ring()
    second = hear(link, Update)
    assert isinstance(second, Update)
    assert (second.reset, told(second)) == (False, [(1, "RUNNING", "bell")])
    say(link, Subscription(True, request=7))
    while (answer := hear(link, Update, Unchanged)).request < 7:  # type: ignore[union-attr]
        assert answer == Unchanged()
    slurm.away = True
    ring()
    assert hear(link, Unavailable) == Unavailable("slurmctld does not answer")
    slurm.away = False
    slurm.put(1, "COMPLETED")
    third = hear(link, Update)
    assert isinstance(third, Update)
    assert told(third) == [(1, "COMPLETED", "bell")]


@pytest.mark.parametrize(
    "timings", [FeederTimings(detectors=1, undetected_s=1000.0, same_second_s=0.5, still_s=0.02)]
)
def test_what_changes_twice_in_a_second_is_told_twice(
    gate: tuple[Slurm, BlockingConnection, Callable[[], None]],
) -> None:
    slurm, link, _ = gate
    slurm.put(1, "PENDING")
    say(link, Subscription(True))
    assert told(hear(link, Update)) == [(1, "PENDING", "bell")]  # type: ignore[arg-type]
    while slurm.looks < 2:
        hear(link, Unchanged)
    slurm.put(1, "RUNNING")
    assert told(hear(link, Update)) == [(1, "RUNNING", "bell")]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "timings", [FeederTimings(detectors=0, undetected_s=float("inf"), check_s=0.1, still_s=0.02)]
)
def test_a_request_for_the_current_state_reads_the_queue_only_if_slurmctld_has_done_something(
    gate: tuple[Slurm, BlockingConnection, Callable[[], None]],
) -> None:
    slurm, link, _ = gate

    def asks(number: int) -> GateMessage:
        say(link, Subscription(True, request=number))
        while (answer := hear(link, Update, Unchanged)).request < number:  # type: ignore[union-attr]
            pass
        return answer

    slurm.put(1, "PENDING")
    say(link, Subscription(True))
    hear(link, Update)
    asks(1)  # from now on it knows what slurmctld has done
    looks = slurm.looks
    assert asks(2) == Unchanged(request=2)
    assert slurm.looks == looks
    slurm.counted = 0
    for number in range(3, 200):
        say(link, Subscription(True, request=number))
    while hear(link, Unchanged).request < 199:  # type: ignore[union-attr]
        pass
    assert slurm.counted < 100, "many who ask at once are answered together"
    assert slurm.looks == looks
    slurm.put(2, "PENDING")
    slurm.submitted += 1
    assert told(asks(200)) == [(2, "PENDING", "bell")]  # type: ignore[arg-type]


SDIAG = """sdiag output at Sun Nov 22 19:02:23 2026 (1795374143)
Data since      Sun Nov 22 18:55:44 2026 (1795373744)
Jobs submitted: {}
Jobs started:   0
Job states ts:  Sun Nov 22 19:02:14 2026 ({})
Jobs pending:   10000
\tLast cycle:   {}
Remote Procedure Call statistics by message type
\tREQUEST_SUBMIT_BATCH_JOB                ( 4003) count:{}  ave_time:5637   total_time:56375318
\tREQUEST_JOB_INFO                        ( 2003) count:{}   ave_time:14467  total_time:14641514
\tMESSAGE_NODE_REGISTRATION_STATUS        ( 1002) count:{}   ave_time:1      total_time:2
\tREQUEST_UPDATE_JOB                      ( 3001) count:{}   ave_time:1      total_time:2
Remote Procedure Call statistics by user
\troot            (       0) count:{}   ave_time:1      total_time:2
"""


@pytest.mark.parametrize(
    ("after", "is_another"),
    [
        ((1, 2, 3, 4, 5, 6, 7, 8), False),
        ((1, 9, 9, 4, 9, 9, 7, 9), False),  # time went by, and people asked
        ((9, 2, 3, 4, 5, 6, 7, 8), True),
        ((1, 2, 3, 9, 5, 6, 7, 8), True),
        ((1, 2, 3, 4, 5, 6, 9, 8), True),
    ],
)
def test_queries_are_no_activity_of_slurmctld(after: tuple[int, ...], is_another: bool) -> None:
    before = SDIAG.format(1, 2, 3, 4, 5, 6, 7, 8)
    assert (activity_of(SDIAG.format(*after)) != activity_of(before)) is is_another


class ScriptedDetector:
    """Reports a change, none, or that it has ended."""

    changes: ClassVar[list[bool | None]] = []
    answered_at = float("inf")

    def __init__(self, slurm: object, every_s: int) -> None:
        assert every_s == 5

    def changed(self) -> bool:
        change = self.changes.pop(0)
        if change is None:
            raise OSError
        return change

    def close(self) -> None:
        """There is nothing to close."""


def test_the_queue_is_read_twice_after_each_change_and_whenever_changes_are_unknown() -> None:
    ScriptedDetector.changes = [False, False, False, True, False, False, None, False, False, False]
    changes = ChangeWatcher(Slurm(), 5, ScriptedDetector)  # type: ignore[arg-type]
    looked = []
    while ScriptedDetector.changes:
        looked.append(changes.has_changed())
        if looked[-1]:
            changes.mark_read()
    assert looked == [True, True, False, True, True, False, True, True, False, False]
    ScriptedDetector.answered_at, ScriptedDetector.changes = float("-inf"), [False] * 3
    assert all(changes.has_changed() for _ in range(3)), "a watch that is silent knows nothing"
    changes.close()


def test_a_bell_without_a_gate_hurts_no_hook(tmp_path: Path) -> None:
    gate_notifier.notify(str(tmp_path))
    gate_notifier.notify("/nowhere")
    listener = gate_notifier.listen(str(tmp_path))
    for _ in range(5000):  # more than fit: nobody waits until they are read
        gate_notifier.notify(str(tmp_path))
    assert listener.recv(16)
    listener.close()


def test_lines_that_are_no_jobs_are_trouble() -> None:
    slurm = Slurm()
    slurm.listing = lambda: b"squeue: something else\n"  # type: ignore[method-assign]
    with pytest.raises(QslurmError):
        QueueReader(slurm).read()  # type: ignore[arg-type]


def test_the_gate_is_given_the_queue_while_it_is_known_and_not_in_trouble(
    gate: tuple[Slurm, BlockingConnection, Callable[[], None]], one: Feeder
) -> None:
    slurm, link, ring = gate
    assert one.queue() is None
    slurm.put(1, "PENDING")
    say(link, Subscription(True))
    hear(link, Update)
    until(lambda: (queue := one.queue()) is not None and queue.job(1) is not None)
    slurm.away = True
    ring()
    hear(link, Unavailable)
    assert one.queue() is None
    slurm.away = False
    ring()
    hear(link, Unchanged)
    until(lambda: one.queue() is not None)
    say(link, Subscription(False))
    until(lambda: one.queue() is None)
