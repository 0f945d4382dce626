"""What anybody on the host can make a server keep is bounded, and others don't notice."""

from __future__ import annotations

import os
import resource
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from qslurm.wire.connection import Address
from qslurm.wire.frames import NO_REQUEST, OVERHEAD, frame
from qslurm.wire.limits import Limits
from qslurm.wire.server import Server
from qslurm.wire.unix_socket import listen_unix

BODY_LIMIT = 8 << 20
LIMITS = Limits(body=BODY_LIMIT)


class Desk:
    """A server, a clock that is set, and clients that speak raw bytes."""

    def __init__(self, folder: Path, limits: Limits = LIMITS) -> None:
        self.now = 0.0
        self.path = folder / "s"
        self.limits = limits
        self.server = Server(limits, clock=lambda: self.now)
        self.server.listen(listen_unix(self.path, service="desk", setting="nothing", backlog=512))
        self.clients: list[socket.socket] = []

    def client(self, data: bytes = b"") -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        client.connect(str(self.path))
        client.sendall(data)
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.server.close()

    def hear(self) -> list[tuple[Address, bytes]]:
        """All that is there to hear."""
        found, idle = [], 0
        while idle < 2 or self.server.waiting:
            before = len(found)
            select.select([self.server], [], [], 0)
            found += list(self.server.receive(64))
            idle = idle + 1 if len(found) == before else 0
        return found

    def is_open(self, client: socket.socket) -> bool:
        self.hear()
        client.setblocking(False)
        try:
            while client.recv(1 << 16):
                continue
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        finally:
            client.settimeout(30)
        return False


@pytest.fixture
def desk(home: Path) -> Iterator[Desk]:
    desk = Desk(home)
    yield desk
    desk.close()


@pytest.fixture
def small(home: Path) -> Iterator[Desk]:
    """One with little room."""
    desk = Desk(home, Limits(body=BODY_LIMIT, connections=3, unsent=4 << 20))
    yield desk
    desk.close()


def ask(client: socket.socket, body: bytes = b"body", number: int = 1) -> None:
    client.sendall(frame(number, body))


def bodies(heard: list[tuple[Address, bytes]]) -> list[bytes]:
    return [body for _, body in heard]


def test_a_request_is_heard_and_answered(desk: Desk) -> None:
    client = desk.client()
    ask(client, number=7)
    ((address, body),) = desk.hear()
    assert (address.number, body) == (7, b"body")
    assert address.connection.peer is not None
    assert (address.connection.peer.uid, address.connection.peer.pid) == (os.getuid(), os.getpid())
    desk.server.send(address, b"answer")
    assert client.recv(4096) == frame(7, b"answer")
    client.close()
    assert desk.hear() == []
    assert address.connection.is_gone
    desk.server.send(address, b"nobody is there")


@pytest.mark.parametrize(
    "data",
    [
        frame(NO_REQUEST, b"no request"),
        (1 << 30).to_bytes(4, "big") + bytes(8),
        frame(1, b"x" * (BODY_LIMIT + 1))[: BODY_LIMIT + 1000],
        b"rubbish!",
    ],
    ids=["no request", "a frame of 1 GB", "a frame that is too long", "rubbish"],
)
def test_who_breaks_a_rule_is_ended_at_once_and_the_neighbour_is_heard(desk: Desk, data: bytes) -> None:
    neighbour, bad = desk.client(), desk.client()
    desk.hear()
    bad.setblocking(False)
    for start in range(0, len(data), 1 << 16):
        try:
            bad.sendall(data[start : start + (1 << 16)])
        except (BlockingIOError, ConnectionError):
            break
        desk.hear()
    ask(neighbour)
    assert bodies(desk.hear()) == [b"body"]
    assert not desk.is_open(bad)
    assert desk.is_open(neighbour)


def test_half_a_frame_and_silence_at_the_beginning_are_ended_in_time_and_later_silence_is_not(
    desk: Desk,
) -> None:
    half, silent, shy, quiet = desk.client(), desk.client(), desk.client(b"\0\0"), desk.client()
    ask(quiet)
    half.sendall(frame(1, b"x" * 1000)[:500])
    assert bodies(desk.hear()) == [b"body"]
    assert all(desk.is_open(one) for one in (half, silent, shy, quiet))
    assert desk.server.check(5.0) == LIMITS.unfinished_s
    desk.server.check(LIMITS.unfinished_s + 0.1)
    assert [desk.is_open(one) for one in (half, silent, shy, quiet)] == [False, False, False, True]
    assert desk.server.check(100.0) == float("inf")


def test_who_was_let_in_by_name_may_speak_whenever_it_likes(desk: Desk) -> None:
    """As `qslurm run`, whose file may compute for an hour before it asks for a first circuit."""
    theirs, ours = socket.socketpair()
    desk.clients.append(theirs)
    desk.server.welcome(ours, hurried=False)
    assert desk.server.check(LIMITS.unfinished_s + 0.1) == float("inf")
    ask(theirs, b"hello")
    assert bodies(desk.hear()) == [b"hello"]


def test_nobody_keeps_more_than_a_user_s_part_by_many_halves(home: Path) -> None:
    desk = Desk(home, Limits(body=BODY_LIMIT, unread=1 << 20))
    half = frame(1, b"x" * (1 << 19))[:-100]
    clients = [desk.client() for _ in range(8)]
    for client in clients:
        client.setblocking(False)
    left = dict.fromkeys(clients, half)
    for _ in range(20):
        for client in clients:
            try:
                left[client] = left[client][client.send(left[client]) :] if left[client] else b""
            except BlockingIOError:
                continue
        assert desk.hear() == []
    owner = desk.server._owners[os.getuid()]
    assert owner.unread <= (1 << 20) + (1 << 18)
    desk.now = LIMITS.unfinished_s + 0.1
    desk.server.check(desk.now)  # those that were begun and not ended are gone, and there is room again
    ask(desk.client())
    assert bodies(desk.hear()) == [b"body"]
    desk.close()


def test_who_asks_without_end_gets_a_part_and_the_neighbour_does_not_wait(desk: Desk) -> None:
    neighbour, eager = desk.client(), desk.client()
    eager.setblocking(False)
    question = frame(1, b"me")
    for _ in range(10_000):
        try:
            eager.sendall(question)
        except BlockingIOError:
            break
    ask(neighbour)
    heard = desk.hear()
    assert bodies(heard).count(b"me") == LIMITS.unanswered
    assert b"body" in bodies(heard[:3])
    address = next(address for address, body in heard if body == b"me")
    for _ in range(10):
        desk.server.send(address, b"answer")
    assert len(desk.hear()) == 10
    desk.server.send(address, b"a word", final=False)
    assert desk.hear() == []


def test_who_takes_no_answers_is_heard_no_more_and_ended(small: Desk) -> None:
    client = small.client()
    for _ in range(3):
        ask(client)
    address, _ = small.hear()[0]
    small.server.send(address, bytes(3 << 20))
    ask(client)
    assert small.hear() == []
    small.server.send(address, bytes(3 << 20))
    assert address.connection.is_gone


def test_a_large_answer_arrives_and_then_the_next_question_is_heard(desk: Desk) -> None:
    client = desk.client()
    ask(client)
    address, _ = desk.hear()[0]
    desk.server.send(address, answer := os.urandom(5 << 20))
    ask(client)
    came = b""
    while len(came) < OVERHEAD + len(answer):
        list(desk.server.receive(0))
        came += client.recv(1 << 20)
    assert came[OVERHEAD:] == answer
    assert bodies(desk.hear()) == [b"body"]


def test_one_user_has_so_many_connections_and_new_ones_when_old_ones_go(small: Desk) -> None:
    first = []
    for _ in range(3):
        first.append(small.client())
        small.hear()
    late = small.client()
    assert not small.is_open(late)
    first[0].close()
    small.hear()
    assert small.is_open(small.client())
    assert all(small.is_open(one) for one in first[1:])


def test_without_descriptors_nobody_comes_in_until_there_are_some(desk: Desk) -> None:
    neighbour = desk.client()
    desk.hear()
    late = desk.client()
    free = os.dup(neighbour.fileno())
    os.close(free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        ask(neighbour)
        assert bodies(desk.hear()) == [b"body"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    desk.now = desk.server.check(desk.now)
    desk.server.check(desk.now)
    ask(late)
    assert bodies(desk.hear()) == [b"body"]
