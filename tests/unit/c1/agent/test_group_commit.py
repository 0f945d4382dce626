"""What several threads want on disk at once goes there together; who can't be served fails alone."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from qslurm.c1.agent.group_commit import Commits
from tests.unit.waiting import until

PATIENCE_S = 60


@pytest.fixture
def store():
    made = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    made.execute("CREATE TABLE words (word TEXT NOT NULL UNIQUE)")
    yield made
    made.close()


def _adds(word):
    def add(store):
        if word == "bug":
            raise ZeroDivisionError
        return store.execute("INSERT INTO words VALUES (?)", (word,)).rowcount

    return add


def _words(store):
    return [word for (word,) in store.execute("SELECT word FROM words ORDER BY rowid")]


def _while_the_disk_is_busy(commits, words):
    """Make these changes while another is under way; what came of each, and how many transactions it all took."""
    is_busy, may_end, transactions = threading.Event(), threading.Event(), []
    commits._store.set_trace_callback(lambda said: transactions.append(said) if said == "COMMIT" else None)

    def slow(store):
        is_busy.set()
        assert may_end.wait(PATIENCE_S)
        return 0

    with ThreadPoolExecutor(len(words) + 1) as threads:
        first = threads.submit(commits.make, slow)
        assert is_busy.wait(PATIENCE_S)
        asked = []
        for count, word in enumerate(words, 1):
            asked.append(threads.submit(commits.make, _adds(word)))
            until(lambda count=count: len(commits._waiting) >= count)  # one after the other, in this order
        may_end.set()
        first.result(PATIENCE_S)
        return [one.exception(PATIENCE_S) for one in asked], len(transactions)


def test_what_comes_while_the_disk_is_busy_goes_there_together_in_its_order(store):
    errors, transactions = _while_the_disk_is_busy(Commits(store, threading.Lock()), ["a", "b", "c", "d"])
    assert errors == [None] * 4
    assert _words(store) == ["a", "b", "c", "d"]
    assert transactions == 2


@pytest.mark.parametrize(("second", "error"), [("b", sqlite3.IntegrityError), ("bug", ZeroDivisionError)])
def test_a_change_that_cannot_be_made_fails_alone(store, second, error):
    commits = Commits(store, threading.Lock())
    assert commits.make(_adds("b")) == 1
    errors, _ = _while_the_disk_is_busy(commits, ["a", second, "c"])
    assert [type(one) for one in errors] == [type(None), error, type(None)]
    assert _words(store) == ["b", "a", "c"]


def test_a_change_that_breaks_off_leaves_nothing_and_keeps_nobody_waiting(store):
    commits = Commits(store, threading.Lock())

    def half(store):
        _adds("half")(store)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        commits.make(half)
    assert commits.make(_adds("whole")) == 1
    assert _words(store) == ["whole"]


def test_of_many_threads_each_gets_its_own_answer(store):
    commits = Commits(store, threading.Lock())
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda n: commits.make(lambda store: (_adds(str(n))(store), n)), range(200))
        assert list(found) == [(1, n) for n in range(200)]
    assert sorted(map(int, _words(store))) == list(range(200))
