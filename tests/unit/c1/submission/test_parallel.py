"""Many submissions at once."""

from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from qslurm.c1.submission.parallel import for_each
from qslurm.c1.submission.sending import send
from qslurm.errors import RefusedError, TokenError
from qslurm.slurm.rest import Submitted

PAYLOADS = [{"job": {"name": f"job{number}", "comment": ""}, "script": ""} for number in range(20)]


def submit_many(connect, payloads, *, connections, on_done):
    return for_each(
        connect, payloads, send, connections=connections, item_error=RefusedError, on_done=on_done
    )


class C2:
    """Takes what it is sent; `answers` are errors by the name of a job."""

    def __init__(self, **answers):
        self.answers = answers
        self.taken = []
        self.connections = []
        self._lock = threading.Lock()

    def connect(self):
        center = SimpleNamespace(
            slurm=SimpleNamespace(submit=self._submit), has_job_manager=False, closed=False
        )
        center.close = lambda: setattr(center, "closed", True)
        with self._lock:
            self.connections.append(center)
        return center

    def _submit(self, payload):
        name = payload["job"]["name"]
        with self._lock:
            if name in self.answers:
                raise self.answers[name]
            self.taken.append(name)
            return Submitted(int(name.removeprefix("job")) + 100)


def test_each_is_sent_once_over_a_few_connections_and_answered_in_order():
    c2, ticks = C2(), []
    outcomes = submit_many(c2.connect, PAYLOADS, on_done=lambda place, _: ticks.append(place), connections=4)
    assert [outcome.job_id for outcome in outcomes] == list(range(100, 120))
    assert sorted(c2.taken) == sorted(payload["job"]["name"] for payload in PAYLOADS)
    assert sorted(ticks) == list(range(20))
    assert 1 <= len(c2.connections) <= 4
    assert all(center.closed for center in c2.connections)


def test_a_refusal_is_that_jobs_own():
    outcomes = submit_many(
        C2(job3=RefusedError("no")).connect, PAYLOADS, on_done=lambda *_: None, connections=4
    )
    assert [type(outcome) for outcome in outcomes].count(Submitted) == 19
    assert str(outcomes[3]) == "no"


def test_what_would_fail_for_all_ends_the_sending():
    c2 = C2(job3=TokenError("expired"))
    outcomes = submit_many(c2.connect, PAYLOADS, on_done=lambda *_: None, connections=1)
    assert [getattr(outcome, "job_id", outcome) for outcome in outcomes[:3]] == [100, 101, 102]
    assert isinstance(outcomes[3], TokenError)
    assert outcomes[4:] == [None] * 16
    assert c2.taken == ["job0", "job1", "job2"]


def test_what_is_interrupted_begins_nothing_more_and_is_told_what_was_under_way():
    c2, done, interrupted = C2(), [], threading.Event()

    def interrupt(number, frame):
        interrupted.set()
        raise KeyboardInterrupt

    def do(center, thing):
        if thing == 3:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupted.wait(60)
            threading.Event().wait(0.01)  # so that whoever was interrupted is heard
        return thing

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            for_each(
                c2.connect,
                range(1000),
                do,
                connections=1,
                item_error=RefusedError,
                on_done=lambda _, outcome: done.append(outcome),
            )
    finally:
        signal.signal(signal.SIGINT, before)
    assert done[:4] == [0, 1, 2, 3]
    assert len(done) < 1000
    assert all(center.closed for center in c2.connections)


def test_a_mistake_of_ours_is_no_threads_secret():
    with pytest.raises(ZeroDivisionError):
        for_each(C2().connect, [1, 0], lambda _, thing: 1 / thing, connections=1, item_error=RefusedError)
