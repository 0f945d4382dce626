"""A center follows its jobs: what the gate says is at the center at once, and nobody else's."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import requests

from qslurm.c2.config.dispatcher_section import DispatcherConfig
from qslurm.c2.config.file import C2Config
from qslurm.c2.config.jobmanager_section import JobManagerConfig
from qslurm.c2.jobmanager.center_changes import CenterChanges
from qslurm.c2.jobmanager.changes_api import MOST_WAITING, ChangesApi, ChangesTimings
from qslurm.c2.jobmanager.feed_server import FeedServer
from qslurm.c2.jobmanager.rest_api import make_app
from qslurm.errors import UnreachableError
from qslurm.protocol.feed import (
    MESSAGE_LIMIT,
    GateMessage,
    Subscription,
    Unavailable,
    Unchanged,
    Update,
    subscription_decoder,
)
from qslurm.slurm.job_info import JobInfo
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.unix_socket import connect_unix_socket
from tests.unit.waiting import until

if TYPE_CHECKING:
    from qslurm.c2.config.tokens_section import TokensConfig
    from tests.unit.c2.jobmanager.conftest import Manager, Switch


def row(job_id: int, center: str = "snellius", state: str = "PENDING", priority: int = 5) -> JobInfo:
    facts = (
        job_id,
        state,
        "",
        "p_qx",
        f"center_{center}",
        center,
        "normal",
        1,
        0,
        0,
        0,
        0,
        5,
        0,
        "",
        priority,
    )
    return msgspec.convert(facts, JobInfo)


class Gate:
    """Stands in for the gate, at the socket's other end."""

    def __init__(self, path: Path) -> None:
        self._link = BlockingConnection(connect_unix_socket(str(path), 60), MESSAGE_LIMIT)

    def hears(self) -> Subscription:
        return subscription_decoder.decode(self._link.receive(time.monotonic() + 60)[1])

    def is_wanted(self) -> bool:
        return self.hears().wanted

    def says(self, *messages: GateMessage) -> None:
        for message in messages:
            self._link.send(msgspec.msgpack.encode(message), time.monotonic() + 60)

    def has(self, *rows: JobInfo) -> threading.Thread:
        """Say these when it is wanted."""

        def say() -> None:
            asked = self.hears()
            assert asked.wanted
            self.says(Update(list(rows), reset=True, request=asked.request))

        thread = threading.Thread(target=say)
        thread.start()
        return thread

    def hangs_up(self) -> None:
        self._link.close()


class Center:
    """A center with its token, whose questions are asked in the background."""

    def __init__(self, manager: Manager, name: str, pool: ThreadPoolExecutor) -> None:
        self._manager, self._token, self._pool = manager, manager.token(name), pool
        self.since = ""

    def asks(self, path: str, **parameters: Any) -> Future[requests.Response]:
        return self._pool.submit(self._get, path, parameters)

    def hears(self, wait: int = 0) -> dict[str, Any]:
        answer = self.asks("/v1/changes", since=self.since, wait=wait).result(60)
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        self.since = page["since"]
        return page

    def _get(self, path: str, parameters: dict[str, Any]) -> requests.Response:
        headers = {"Authorization": f"Bearer {self._token}"}
        return requests.get(self._manager.url + path, params=parameters, headers=headers, timeout=60)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads


@pytest.fixture
def timings() -> ChangesTimings:
    return ChangesTimings()


@pytest.fixture
def feed(
    manager: Manager, served: tuple[Switch, str], home: Path, keys: TokensConfig, timings: ChangesTimings
) -> Iterator[Path]:
    """A job manager with a feed; the path of its socket."""
    path = home / "feed.sock"
    config = C2Config(
        dispatcher=DispatcherConfig(
            socket=str(home / "none"), store=manager.config.dispatcher.store, trusted_users=[]
        ),
        jobmanager=JobManagerConfig(feed=str(path)),
        tokens=keys,
    )
    changes = ChangesApi(config, timings)
    served[0].app = make_app(config, changes)
    yield path
    changes.close()
    assert not path.exists()


@pytest.fixture
def alice(manager: Manager, feed: Path, pool: ThreadPoolExecutor) -> Center:
    return Center(manager, "snellius", pool)


@pytest.fixture
def lumi(manager: Manager, feed: Path, pool: ThreadPoolExecutor) -> Center:
    return Center(manager, "lumi", pool)


def ids(page: dict[str, Any]) -> list[int]:
    return [job[0] for job in page["jobs"]]


def test_the_gate_is_asked_when_somebody_follows_and_what_it_says_is_told_at_once(
    feed: Path, alice: Center
) -> None:
    gate = Gate(feed)
    first = alice.asks("/v1/changes")
    assert gate.is_wanted()
    gate.says(Update([row(1), row(2, "lumi")], reset=True))
    page = first.result(60).json()
    assert (page["reset"], ids(page)) == (True, [1])
    alice.since = page["since"]
    waiting = alice.asks("/v1/changes", since=alice.since, wait=50)
    gate.says(Unchanged(), Update([row(2, "lumi", "RUNNING")]), Update([row(1, state="RUNNING")]))
    page = waiting.result(60).json()
    assert [(job[0], job[1]) for job in page["jobs"]] == [(1, "RUNNING")]
    alice.since = page["since"]
    gate.says(Update(gone=[1]))
    assert alice.hears(wait=50)["gone"] == [1]
    gate.hangs_up()


def test_a_center_hears_of_its_own_jobs_only(
    feed: Path, alice: Center, lumi: Center, timings: ChangesTimings
) -> None:
    timings.fresh_s = 0.01
    gate = Gate(feed)
    telling = gate.has(row(1), row(2, "lumi", priority=9), row(3, "stranger"))
    assert (ids(alice.hears()), ids(lumi.hears())) == ([1], [2])
    listed = alice.asks("/v1/queue").result(60).json()
    assert (ids(listed), listed["places"]) == (
        [1],
        [[1, 2]],
    )  # in line behind lumi's, of which nothing is said
    assert lumi.asks("/v1/places").result(60).json() == {"jobs": [], "places": [[2, 1]]}
    assert lumi.asks("/v1/loads").result(60).json() == [
        {"partition": "p_qx", "waiting": 3, "in_line": 3, "running": 0}
    ]
    telling.join(60)
    gate.hangs_up()


def test_a_list_has_what_was_submitted_a_moment_ago(feed: Path, alice: Center) -> None:
    gate = Gate(feed)
    said = gate.has(row(1))
    alice.asks("/v1/queue").result(60)
    said.join()
    asking = alice.asks("/v1/queue")
    look = gate.hears().request
    gate.says(Update([row(2)]), Unchanged(request=look - 1), Update([row(3)], request=look))
    assert [job[0] for job in asking.result(60).json()["jobs"]] == [1, 2, 3]
    gate.hangs_up()


def test_without_a_gate_nobody_waits_long_and_all_is_well_when_it_is_back(
    feed: Path, alice: Center, timings: ChangesTimings
) -> None:
    timings.start_s = 0.05
    answer = alice.asks("/v1/changes", wait=50).result(60)
    assert answer.status_code == 503
    assert "slurmrestd" in answer.json()["error"]["hint"]
    timings.start_s = 60.0
    gate = Gate(feed)
    telling = gate.has(row(1))
    assert ids(alice.hears()) == [1]
    gate.says(Unavailable("slurmctld does not answer"))
    timings.start_s = 0.05
    while (answer := alice.asks("/v1/changes", since=alice.since).result(60)).status_code == 200:
        pass  # the gate's word is on its way
    assert "slurmctld does not answer" in answer.json()["error"]["message"]
    telling.join(60)
    gate.hangs_up()


def test_one_question_too_many_has_the_oldest_answered(feed: Path, alice: Center, lumi: Center) -> None:
    gate = Gate(feed)
    telling = gate.has(row(1))
    alice.hears()
    lumi.hears()
    others = lumi.asks("/v1/changes", since=lumi.since, wait=50)
    asked = [alice.asks("/v1/changes", since=alice.since, wait=50) for _ in range(MOST_WAITING + 1)]
    early = next(one for one in _done_first(asked))
    assert early.json()["jobs"] == []
    gate.says(Update([row(1, state="RUNNING"), row(2, "lumi")]))
    assert sorted(len(one.result(60).json()["jobs"]) for one in asked) == [0] + [1] * MOST_WAITING
    assert ids(others.result(60).json()) == [2]
    telling.join(60)
    gate.hangs_up()


def _done_first(asked: list[Future[requests.Response]]) -> Iterator[requests.Response]:
    from concurrent.futures import as_completed

    for one in as_completed(asked, timeout=60):
        yield one.result()


@pytest.mark.parametrize("wait", ["soon", "-1", "1e3", "9999999"])
def test_a_wait_that_is_no_number_is_said(alice: Center, wait: str) -> None:
    answer = alice.asks("/v1/changes", wait=wait).result(60)
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        400,
        "wait must be a number of seconds.",
    )


def test_nobody_without_a_token_follows(manager: Manager, feed: Path) -> None:
    for path in ("/v1/changes", "/v1/queue", "/v1/places", "/v1/loads"):
        assert manager.get(path, token="x").status_code == 401


def test_only_the_gate_is_listened_to(home: Path) -> None:
    feed = FeedServer(str(home / "feed.sock"), "center_", set(), lambda _: None)
    gate = Gate(home / "feed.sock")
    with pytest.raises((EOFError, OSError)):
        gate.is_wanted()
    gate.hangs_up()
    feed.close()


def test_nobody_else_waits_while_what_the_gate_says_is_taken_in(
    manager: Manager, feed: Path, alice: Center, lumi: Center, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taking in a million jobs holds the table for seconds: the loop must not wait for it."""
    apply, begun, enough = CenterChanges.apply, threading.Event(), threading.Event()

    def slow(changes: CenterChanges, update: Update) -> set[str]:
        begun.set()
        assert enough.wait(60)
        return apply(changes, update)

    monkeypatch.setattr(CenterChanges, "apply", slow)
    gate = Gate(feed)
    said = gate.has(row(1))
    waiting = [alice.asks(path) for path in ("/v1/queue", "/v1/changes", "/v1/places", "/v1/loads")]
    assert begun.wait(60)
    for _ in range(3):
        assert lumi.asks("/v1/jobs").result(60).status_code == 200
    assert not any(one.done() for one in waiting)
    enough.set()
    assert {one.result(60).status_code for one in waiting} == {200}
    said.join()
    gate.hangs_up()


def test_a_gate_that_does_not_listen_is_told_once_and_nobody_waits_for_it(
    manager: Manager, feed: Path, alice: Center
) -> None:
    gate = Gate(feed)
    said = gate.has(row(1))
    assert alice.asks("/v1/queue").result(60).status_code == 200
    said.join()
    for _ in range(3):  # it answers none of these
        assert alice.asks("/v1/queue").result(60).status_code == 200
    question = gate.hears().request
    gate.says(Unchanged(request=question))
    assert gate.hears().request == question + 2  # those that came meanwhile, in one
    gate.hangs_up()


def test_other_users_are_refused_also_beside_the_gate_and_fill_no_log(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trusted = {os.getuid()}
    feed = FeedServer(str(home / "feed.sock"), "center_", trusted, lambda _: None)
    gate = Gate(home / "feed.sock")
    said = gate.has(row(1))
    until(lambda: feed.read(lambda changes: len(changes.table.jobs())))
    said.join()
    trusted.clear()
    for _ in range(60):
        stranger = Gate(home / "feed.sock")
        with pytest.raises((EOFError, OSError)):
            stranger.hears()
        stranger.hangs_up()
    assert 1 <= sum("not the gate" in record.getMessage() for record in caplog.records) <= 20
    gate.says(Update([row(2)]))
    until(lambda: feed.read(lambda changes: len(changes.table.jobs())) == 2)
    gate.hangs_up()
    feed.close()


def test_a_feed_that_can_not_be_says_why(home: Path) -> None:
    with pytest.raises(UnreachableError, match="cannot listen"):
        FeedServer(str(home / "nowhere" / "feed.sock"), "center_", set(), lambda _: None)
