"""A job's final result is handed in at the door where its lanes come from; nothing else is taken there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import msgspec
import pytest

from qslurm.protocol.messages import Attached, Await, Conclude, Execute
from qslurm.runtimes.classical.dispatcher_session import Session
from qslurm.runtimes.lanes.client import DOOR_LIMIT, REQUEST, Hello, door_of, knock
from qslurm.wire.frames import frame
from qslurm.wire.unix_socket import connect_unix_socket
from tests.unit.c2.dispatcher.running import BELL, Running, hybrid_job

UID = os.getuid()
SOURCE = "def execute(qi): pass\ndef finalize(m): return {}\n"


@contextmanager
def session(running: Running, job_id: int) -> Iterator[Session]:
    """A hybrid job's step that has executed a circuit."""
    running.ask(hybrid_job(job_id, SOURCE, uid=UID))
    with running.client() as client:
        step = Session(client, job_id, 0, say=lambda _: None, door=lambda: knock(running.config.socket))
        with closing(step):
            step.execute(BELL, 10, False)
            yield step


def result(running: Running, job_id: int) -> tuple[str, object]:
    task = running.reader().task("a", job_id)
    assert task is not None
    return task.state, running.final_result(task)


def at_the_door(running: Running, attached: Attached) -> socket.socket:
    """A client of its own that has shown whose it is."""
    guest = connect_unix_socket(door_of(running.config.socket), 60)
    guest.sendall(frame(REQUEST, msgspec.msgpack.encode(Hello(attached.task, attached.secret))))
    return guest


def test_a_final_result_is_stored_when_the_door_says_so_and_the_session_asks_nowhere_else(
    shared: Running,
) -> None:
    with session(shared, 1) as step:
        step._insist = None  # type: ignore[method-assign, assignment]
        step.conclude(final_result='{"energy": -1.5}')
        assert result(shared, 1) == ("finished", {"energy": -1.5})


def test_a_final_result_that_is_too_large_for_the_door_goes_the_other_way(shared: Running) -> None:
    with session(shared, 2) as step:
        step.conclude(final_result=f'{{"words": "{"x" * DOOR_LIMIT}"}}')
        state, found = result(shared, 2)
        assert state == "finished"
        assert found == {"words": "x" * DOOR_LIMIT}


def test_a_door_that_has_closed_costs_no_result(shared: Running) -> None:
    with session(shared, 3) as step:
        assert step._lane is not None
        assert step._lane._door is not None
        step._lane._door.shutdown(socket.SHUT_RDWR)
        step.conclude(final_result="{}")
        assert result(shared, 3) == ("finished", {})


def test_asked_twice_nothing_changes(shared: Running) -> None:
    with session(shared, 4) as step:
        step.conclude(final_result='{"first": 1}')
        step.conclude(final_result='{"second": 2}')
        assert result(shared, 4) == ("finished", {"first": 1})


@pytest.mark.parametrize("job_id", [10, 11, 12, 13])
def test_whoever_says_anything_else_there_is_sent_away_and_the_job_goes_on(
    shared: Running, job_id: int
) -> None:
    shared.ask(hybrid_job(job_id, SOURCE, uid=UID))
    with shared.client() as client:
        step = Session(client, job_id, 0, say=lambda _: None)
        task = step.attached.task
        messages = {
            10: b"\xc1 rubbish",
            11: msgspec.msgpack.encode(Conclude(task=task + 1, final_result="{}")),
            12: msgspec.msgpack.encode(Execute(task=task, seq=0, circuit=BELL, shots=1)),
            13: msgspec.msgpack.encode(Await(task=task, seq=0)),
        }
        guest = at_the_door(shared, step.attached)
        guest.sendall(frame(REQUEST, messages[job_id]))
        assert guest.recv(1) == b"", "it is sent away"
        guest.close()
        assert step.execute(BELL, 10, False).shots_done == 10
        step.conclude(final_result="{}")
        assert result(shared, job_id) == ("finished", {})


def test_a_result_that_is_no_json_is_refused_at_the_door_as_elsewhere(shared: Running) -> None:
    with session(shared, 5) as step, pytest.raises(Exception, match="not a JSON object"):
        step.conclude(final_result="[1, 2")


def test_who_is_silent_keeps_nobody_out(shared: Running) -> None:
    silent = []
    for _ in range(600):
        silent.append(connect_unix_socket(door_of(shared.config.socket), 60))
    with session(shared, 6) as step:
        step._insist = None  # type: ignore[method-assign, assignment]
        step.conclude(final_result="{}")
        assert result(shared, 6) == ("finished", {})
    for guest in silent:
        guest.close()
