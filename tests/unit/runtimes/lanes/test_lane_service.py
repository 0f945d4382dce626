"""A quantum runtime serves several lanes: in turn, each once, and only those that it may."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest

from qslurm.protocol.messages import Execute, Executed, Lease, LeasedTask
from qslurm.runtimes.health import TryLaterError
from qslurm.runtimes.interface import Outcome
from qslurm.runtimes.lanes.lane_service import serve_lanes
from qslurm.runtimes.lanes.lane_set import LaneSet
from qslurm.runtimes.lanes.logbook import Logbook, memory_logbook
from qslurm.runtimes.lanes.shared_memory import Lane, OwnedLane

LEASE = Lease(members=[LeasedTask(1), LeasedTask(2), LeasedTask(3)], backend="qx", max_shots=10)


class Served:
    """A runtime with lanes for tasks 1, 2 and 3, whose clients ask again as soon as they are answered, `asks` times.

    `names` are the tasks that they say they are.
    """

    def __init__(self, asks: int, names: tuple[int, ...]) -> None:
        self.owned = [OwnedLane() for _ in range(3)]
        self.clients = [Lane("client", *map(os.dup, owned.for_client)) for owned in self.owned]
        self.asks = [asks] * 3
        self.names = names
        self.asked = [0] * 3
        self.answers: list[list[Executed]] = [[], [], []]
        self.done: list[tuple[int, int]] = []
        descriptor = memory_logbook()
        self.logbook, self.book = Logbook(descriptor), Logbook(descriptor)
        os.close(descriptor)
        self.book.renew()
        self.then: Callable[[int], None] = lambda _: None
        for number in range(3):
            self.ask(number)

    def ask(self, number: int) -> None:
        if self.asked[number] < self.asks[number]:
            message = Execute(task=self.names[number], seq=self.asked[number], circuit="c", shots=1)
            self.asked[number] += 1
            self.clients[number].request(msgspec.msgpack.encode(message))

    def perform(self, message: Execute) -> Outcome:
        self.done.append((message.task, message.seq))
        self.then(len(self.done))
        return Outcome(counts={"0": 1}, raw_data=None, shots_requested=1, shots_done=1, seconds=0.001)

    def may_continue(self) -> bool:
        """There is nothing to do: the clients have been answered."""
        for number, client in enumerate(self.clients):
            data = client.wait_answer(0) if len(self.answers[number]) < self.asked[number] else None
            if data is not None:
                self.answers[number].append(msgspec.msgpack.decode(data, type=Executed))
                self.ask(number)
        ends = zip(self.clients, self.asked, self.answers, strict=True)
        return any(asked > len(got) and not client.closed for client, asked, got in ends)

    def serve(self, watch_s: float = 0.0) -> bool:
        lanes = LaneSet([Lane("runtime", *map(os.dup, owned.for_runtime)) for owned in self.owned], LEASE)
        try:
            return serve_lanes(
                lanes, self.logbook, LEASE, self.perform, may_continue=self.may_continue, watch_s=watch_s
            )
        finally:
            lanes.close()


@contextmanager
def served(asks: int = 1, names: tuple[int, ...] = (1, 2, 3)) -> Iterator[Served]:
    table = Served(asks, names)
    yield table
    for lane in (*table.clients, *table.owned, table.logbook, table.book):
        lane.close()


def test_each_gets_its_turn_and_every_execution_is_written_down_once() -> None:
    with served(asks=20) as table:
        assert not table.serve()
        assert sorted(table.done) == [(task, seq) for task in (1, 2, 3) for seq in range(20)]
        for start in range(0, 60, 3):
            assert {task for task, _ in table.done[start : start + 3]} == {1, 2, 3}
        assert [(one.task, one.executed.seq) for one in table.book.read()] == table.done
        assert all([one.seq for one in answers] == list(range(20)) for answers in table.answers)


def test_a_lease_that_is_wanted_back_ends_between_two_circuits_and_what_was_not_begun_is_done_in_the_next() -> (
    None
):
    with served() as table:
        table.then = lambda done: table.book.stop() if done == 1 else None
        assert table.serve(), "the lanes may be served again"
        assert table.done == [(1, 0)]
        assert [client.closed for client in table.clients] == [False] * 3
        assert len(list(table.book.read())) == 1
        table.book.renew()
        table.serve()
        assert table.done == [(1, 0), (2, 0), (3, 0)]


def test_a_job_that_may_not_go_on_executes_nothing_more_and_its_neighbours_do() -> None:
    with served(asks=3) as table:
        table.then = lambda done: table.book.withdraw(1) if done == 1 else None
        table.serve()
        assert sorted(table.done) == [(task, seq) for task in (1, 3) for seq in range(3)]
        assert table.clients[1].closed
        assert table.clients[1].wait_answer(0) is None


def test_a_circuit_that_the_target_gives_back_ends_the_lease_for_all() -> None:
    with served() as table:

        def later(done: int) -> None:
            if done == 2:
                raise TryLaterError("The target calibrates.", begun=False)

        table.then = later
        assert not table.serve()
        assert table.done == [(1, 0), (2, 0)]
        assert all(client.closed for client in table.clients)
        assert [one.task for one in table.book.read()] == [1]
        assert table.book.busy() is None


def test_a_client_that_hangs_up_leaves_and_the_others_stay() -> None:
    with served(asks=2) as table:
        with socket.socket(fileno=os.dup(table.owned[0].for_client[1])) as end:
            end.shutdown(socket.SHUT_RDWR)
        table.serve(watch_s=0.01)
        assert sorted(table.done) == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]
        assert table.clients[0].closed


@pytest.mark.parametrize("task", [2, 99])
def test_a_job_can_execute_nothing_in_anothers_name(task: int) -> None:
    with served(names=(task, 2, 3)) as table:
        table.serve()
        assert sorted(table.done) == [(2, 0), (3, 0)]
        assert table.answers[0][0].error
        assert [one.task for one in table.book.read()] == [2, 3]
