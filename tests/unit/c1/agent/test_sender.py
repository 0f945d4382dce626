"""Several submissions are on their way at once, and each is sent by one thread only."""

from __future__ import annotations

import threading
from collections import Counter
from types import SimpleNamespace

import pytest

from qslurm.c1.agent.outbox import Outbox
from qslurm.c1.agent.sender import SENDERS, SenderPool, SenderThread
from qslurm.errors import UncertainError, UnreachableError
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.rest import Submitted

PATIENCE_S = 60


class C2:
    """Answers when as many ask at once as there are lanes; `doubts` are keys of which it leaves the sender in doubt."""

    def __init__(self, at_once=1, doubts=()):
        self.sent = Counter()
        self.opened = 0
        self.doubts = set(doubts)
        self.away = threading.Event()
        self._together = threading.Barrier(at_once, timeout=PATIENCE_S)
        self._lock = threading.Lock()

    def connect(self):
        self.opened += 1
        return SimpleNamespace(slurm=self, close=lambda: None)

    def submit(self, payload):
        if self.away.is_set():
            raise UnreachableError("C2 is away.")
        self._together.wait()
        key = payload["key"]
        with self._lock:
            self.sent[key] += 1
        if key in self.doubts:
            raise UncertainError("No answer.")
        return Submitted(int(key))

    def find_by_key(self, key):
        return JobInfo(job_id=int(key), name="", state="PENDING") if self.sent[key] else None


@pytest.fixture
def outbox(tmp_path):
    made = Outbox(tmp_path / "state")
    yield made
    made.close()


def _run(outbox, c2, keys):
    left, all_done = set(keys), threading.Event()

    def done(key, outcome):
        left.discard(key)
        if not left:
            all_done.set()

    senders = SenderPool(outbox, c2.connect, done)
    senders.start()
    for key in keys:
        outbox.add(key, "ann", {"key": key, "job": {}})
    senders.wake()
    try:
        assert all_done.wait(PATIENCE_S), left
    finally:
        senders.stop()
    return senders


def test_a_submission_that_nobody_can_send_holds_up_no_other(outbox):
    """Even if that is a bug of ours."""
    bad = [str(number) for number in range(1, SENDERS + 1)]
    for key in bad:
        outbox.add(key, "bob", {"key": None, "job": {}})
    senders = _run(outbox, C2(), ["101", "102"])
    assert set(senders.trouble) <= set(bad)
    assert outbox.by_key("1").state == "sending"


def test_as_many_are_on_their_way_as_there_are_lanes_and_each_is_sent_once(outbox):
    keys = [str(number) for number in range(101, 101 + 5 * SENDERS)]
    c2 = C2(at_once=SENDERS)  # nobody gets an answer before so many have asked
    _run(outbox, c2, keys)
    assert c2.sent == Counter(keys)
    assert c2.opened == SENDERS
    assert {outbox.by_key(key).job_id for key in keys} == {int(key) for key in keys}


def test_one_that_nobody_is_sure_of_holds_up_no_other(outbox):
    keys = [str(number) for number in range(101, 113)]
    c2 = C2(doubts={"101"})
    senders = _run(outbox, c2, keys)
    assert c2.sent == Counter(keys)  # it was looked up, and not sent again
    assert outbox.by_key("101").job_id == 101
    assert dict(senders.trouble) == {}


def test_what_waits_while_c2_is_away_says_so_and_is_sent_by_the_next_agent(outbox):
    c2 = C2()
    c2.away.set()
    keys = [str(number) for number in range(101, 101 + SENDERS)]
    for key in keys:
        outbox.add(key, "ann", {"key": key, "job": {}})
    senders = SenderPool(outbox, c2.connect, lambda *_: None)
    senders.start()
    waited = threading.Event()
    for _ in range(PATIENCE_S * 100):
        if all(key in senders.trouble for key in keys):
            break
        waited.wait(0.01)
    senders.stop()
    assert dict(senders.trouble) == dict.fromkeys(keys, "C2 is away.")
    c2.away.clear()
    _run(outbox, c2, keys)
    assert c2.sent == Counter(keys)


def test_what_is_given_up_while_it_waits_is_not_waited_for(outbox):
    """It would be due for ever, and the thread would never rest."""
    outbox.mark_accepted(outbox.add("101", "ann", {"key": "101", "job": {}}).number, 7, {})
    outbox.mark_for_resubmission(1)
    follows = outbox.add("102", "ann", {"key": "102", "job": {"dependency": "afterok:7"}})
    c2 = C2()
    sender = SenderThread(outbox, c2.connect, lambda *_: None, index=0, count=2)
    assert sender._send_all(c2.connect())
    assert sender._until_next() is not None
    assert outbox.cancel_waiting(follows.number, {})
    assert sender._send_all(c2.connect())
    assert sender._until_next() is None
    assert not c2.sent
