"""A session for the other processes of its node."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from functools import partial

import pytest

from qslurm.c1.api.session import Session
from qslurm.c1.sessions import connect, sharing
from qslurm.c1.sessions.session_client import SessionClient
from qslurm.c1.sessions.sharing import MOST_OUTCOMES, VARIABLE, ClientOutcomes, SharedSession, shared
from qslurm.errors import InvalidInputError
from qslurm.runtimes.interface import Outcome
from tests.unit.c1.sessions.conftest import Held, Place
from tests.unit.c1.sessions.test_sessions import CIRCUIT
from tests.unit.c2.dispatcher.running import ROOT
from tests.unit.waiting import until

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from qslurm import Session
with Session.current() as qi:
    print(qi.execute_circuit(sys.argv[2], 4).results, qi.backend_type.name)
    qi.final_result = {"by": "another process"}
"""


@pytest.fixture
def held(place: Place) -> Held:
    place.let_go()
    return place.hold()


@pytest.fixture
def client(held: Held) -> Iterator[SessionClient]:
    with closing(held.client(by_cable=True)) as client:
        yield client


@pytest.fixture
def share(client: SessionClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedSession]:
    with shared(client) as share:
        monkeypatch.setenv(VARIABLE, str(share.path))
        yield share


def test_what_a_process_asks_again_is_not_executed_again() -> None:
    outcomes, executed = ClientOutcomes(), []

    def execute(seq: int) -> Future[Outcome]:
        executed.append(seq)
        outcome: Future[Outcome] = Future()
        outcome.set_exception(InvalidInputError("no circuit"))
        return outcome

    for seq in [*range(MOST_OUTCOMES)] * 2:
        outcomes.ask(seq, partial(execute, seq))
    assert executed == [*range(MOST_OUTCOMES)]


def test_another_process_uses_the_session_and_hands_its_result_in(share: SharedSession) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ROOT), CIRCUIT],
        env=os.environ | {VARIABLE: str(share.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "{'01': 4} qx\n", done.stderr
    assert share.final_result == '{"by": "another process"}'


def test_many_ask_at_once_and_each_gets_its_own(share: SharedSession, client: SessionClient) -> None:
    sessions = [Session.current() for _ in range(4)]
    futures = [(qi.submit(CIRCUIT, 10 * n + m), 10 * n + m) for n, qi in enumerate(sessions) for m in (1, 2)]
    assert all(future.result(60).results == {"01": shots} for future, shots in futures)
    for qi in sessions:
        qi.close()
    assert client.executions == 8
    assert client.over is None  # leaving ends nothing


def test_who_has_lost_its_link_asks_again_and_nothing_is_executed_twice(
    share: SharedSession, client: SessionClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    links: list[socket.socket] = []
    way = connect.connect_unix

    def remembered(path: str) -> socket.socket:
        links.append(way(path))
        return links[-1]

    def lose(*_: object) -> None:
        links[-1].shutdown(socket.SHUT_RDWR)  # where the answer should have gone

    with monkeypatch.context() as patch:
        patch.setattr(connect, "connect_unix", remembered)
        qi = Session.current()
    with monkeypatch.context() as patch:
        patch.setattr(sharing, "_answer", lose)
        future = qi.submit(CIRCUIT, 5)
        until(lambda: client.executions == 1 and len(links) > 1)
    assert future.result(60).results == {"01": 5}
    assert client.executions == 1
    qi.close()


def test_an_error_is_the_error_that_it_is(share: SharedSession) -> None:
    with Session.current() as qi:
        with pytest.raises(InvalidInputError, match="shots"):
            qi.execute_circuit(CIRCUIT, 10**9)
        assert qi.execute_circuit(CIRCUIT, 1).results == {"01": 1}


def test_a_cut_link_to_c2_is_not_noticed_here(share: SharedSession, held: Held) -> None:
    with Session.current() as qi:
        held.place.cable.cut()
        future = qi.submit(CIRCUIT, 3)
        held.place.cable.mend()
        assert future.result(60).results == {"01": 3}


def test_who_talks_nonsense_loses_only_its_own_connection(share: SharedSession) -> None:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(30)
        link.connect(str(share.path))
        link.sendall(b"\xff" * 100)
        with suppress(ConnectionResetError):  # what it had still to say was not read
            assert link.recv(10) == b""
    with Session.current() as qi:
        assert qi.execute_circuit(CIRCUIT, 1).results == {"01": 1}


def test_the_folder_is_for_its_user_alone_and_goes_with_the_session(client: SessionClient) -> None:
    with shared(client) as share:
        folder = share.path.parent
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


@pytest.mark.parametrize("value", [None, "/nowhere/session"])
def test_a_process_without_a_session_is_told_how_to_get_one(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value:
        monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(InvalidInputError) as caught:
        Session.current()
    assert "qslurm session" in caught.value.hint


def test_a_result_that_is_none_is_refused_before_it_leaves(place: Place) -> None:
    place.let_go()
    held = place.hold()
    qi = Session(held.client())
    qi.final_result = {"f": object()}
    with pytest.raises(Exception, match="object"), qi:
        qi.execute_circuit(CIRCUIT, 1)
    held.finish()
    until(lambda: held.ended)
