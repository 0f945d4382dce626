"""What anybody on the host can make the dispatcher keep is bounded, and others don't notice."""

from __future__ import annotations

import os
import resource
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from qslurm.c2.dispatcher.listeners import unix_listener, user_limits
from qslurm.c2.dispatcher.listeners.unix_listener import UnixListener
from qslurm.protocol.dispatcher_frames import BODY_LIMIT
from qslurm.protocol.zmtp import GREETING, pack
from tests.unit.protocol.test_zmtp import READY


class Desk:
    """A listener, a clock that is set, and clients that speak raw bytes."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.path = str(folder / "s")
        self.exempt: frozenset[int] = frozenset()
        self.listener = UnixListener(self.exempt, clock=lambda: self.now)
        self.listener.listen(self.path)
        self.clients: list[socket.socket] = []

    def connect(self, data: bytes = b"") -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        client.connect(self.path)
        client.sendall(data)
        self.clients.append(client)
        return client

    def client(self) -> socket.socket:
        """One that has shaken hands."""
        return self.connect(GREETING + READY)

    def hear(self) -> list[list[bytes]]:
        """All that is there to hear."""
        found, idle = [], 0
        while idle < 2 or self.listener.waiting:
            before = len(found)
            select.select([self.listener.ear], [], [], 0)
            found += list(self.listener.hear(64))
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
    for client in desk.clients:
        client.close()
    desk.listener.close()
    assert not Path(desk.path).exists()


def ask(client: socket.socket, body: bytes = b"body") -> None:
    client.sendall(pack([b"", body, b"credential"]))


def test_a_question_is_heard_and_answered(desk: Desk) -> None:
    client = desk.client()
    ask(client)
    ((name, *frames),) = desk.hear()
    assert frames == [b"", b"body", b"credential"]
    assert desk.listener.owner(name) == os.getuid()
    desk.listener.send([name, b"", b"answer"])
    assert client.recv(4096).endswith(pack([b"", b"answer"]))
    client.close()
    assert desk.hear() == []
    assert desk.listener.owner(name) is None
    desk.listener.send([name, b"", b"nobody is there"])


@pytest.mark.parametrize(
    "data",
    [
        pack([b"x"] * 6),
        b"\x02" + (1 << 30).to_bytes(8, "big"),
        pack([b"", b"x" * BODY_LIMIT, b"y" * BODY_LIMIT])[: BODY_LIMIT + 1000],
        b"rubbish!",
    ],
    ids=["a million frames", "a frame of 1 GB", "a message of many frames", "rubbish"],
)
def test_who_sends_too_much_is_ended_at_once_and_the_neighbour_is_heard(desk: Desk, data: bytes) -> None:
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
    (message,) = desk.hear()
    assert message[2] == b"body"
    if len(data) > BODY_LIMIT:
        assert desk.is_open(neighbour)
    else:
        assert not desk.is_open(bad)


def test_half_a_message_and_half_a_greeting_are_ended_in_time_and_silence_after_a_greeting_is_not(
    desk: Desk,
) -> None:
    half, silent, shy, quiet = desk.client(), desk.connect(), desk.connect(GREETING[:20]), desk.client()
    half.sendall(pack([b"", b"x" * 1000, b""])[:500])
    assert all(desk.is_open(one) for one in (half, silent, shy, quiet))
    assert desk.listener.look(5.0) == unix_listener.UNFINISHED_S
    desk.listener.look(unix_listener.UNFINISHED_S + 0.1)
    assert [desk.is_open(one) for one in (half, silent, shy, quiet)] == [False, False, False, True]
    assert desk.listener.look(100.0) == float("inf")


def test_who_was_let_in_by_name_may_greet_whenever_it_likes(desk: Desk) -> None:
    """As `qslurm run`, whose file may compute for an hour before it asks for a first circuit."""
    theirs, ours = socket.socketpair()
    desk.clients.append(theirs)
    desk.listener.welcome(ours, hurried=False)
    assert desk.listener.look(unix_listener.UNFINISHED_S + 0.1) == float("inf")
    theirs.sendall(GREETING + READY + pack([b"", b"hello", b""]))
    assert [message[1:] for message in desk.hear()] == [[b"", b"hello", b""]]


def test_nobody_keeps_more_than_a_user_s_part_by_many_halves(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_limits, "UNREAD", 1 << 20)
    half = pack([b"", b"x" * (1 << 19), b""])[:-100]
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
    assert desk.listener._users[os.getuid()].unread <= (1 << 20) + (1 << 18)
    desk.now = unix_listener.UNFINISHED_S + 0.1
    desk.listener.look(desk.now)  # those that were begun and not ended are gone, and there is room again
    fresh = desk.client()
    ask(fresh)
    assert [message[2] for message in desk.hear()] == [b"body"]


def test_who_asks_without_end_gets_a_part_and_the_neighbour_does_not_wait(desk: Desk) -> None:
    neighbour, eager = desk.client(), desk.client()
    eager.setblocking(False)
    question = pack([b"", b"me", b""])
    for _ in range(10_000):
        try:
            eager.sendall(question)
        except BlockingIOError:
            break
    ask(neighbour)
    heard = desk.hear()
    assert [message[2] for message in heard].count(b"me") == unix_listener.UNANSWERED
    assert b"body" in [message[2] for message in heard[:3]]
    name = next(message[0] for message in heard if message[2] == b"me")
    for _ in range(10):
        desk.listener.send([name, b"", b"answer"])
    assert len(desk.hear()) == 10


def test_who_takes_no_answers_is_heard_no_more_and_ended(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_limits, "UNSENT", 4 << 20)
    client = desk.client()
    for _ in range(3):
        ask(client)
    name = desk.hear()[0][0]
    desk.listener.send([name, b"", bytes(3 << 20)])
    ask(client)
    assert desk.hear() == []
    desk.listener.send([name, b"", bytes(3 << 20)])
    assert desk.listener.owner(name) is None


def test_a_large_answer_arrives_and_then_the_next_question_is_heard(desk: Desk) -> None:
    client = desk.client()
    ask(client)
    name = desk.hear()[0][0]
    answer = pack([b"", os.urandom(5 << 20)])
    desk.listener.send([name, b"", answer[-(5 << 20) :]])
    ask(client)
    came = b""
    while not came.endswith(answer[-100:]):
        list(desk.listener.hear(0))
        came += client.recv(1 << 20)
    assert [message[2] for message in desk.hear()] == [b"body"]


def test_one_user_has_so_many_connections_and_new_ones_when_old_ones_go(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_limits, "MOST_CONNECTIONS", 3)
    first = []
    for _ in range(3):
        first.append(desk.client())
        desk.hear()
    late = desk.client()
    assert not desk.is_open(late)
    first[0].close()
    desk.hear()
    assert desk.is_open(desk.client())
    assert all(desk.is_open(one) for one in first[1:])


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
        assert [message[2] for message in desk.hear()] == [b"body"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    desk.now = desk.listener.look(desk.now)
    desk.listener.look(desk.now)
    ask(late)
    assert [message[2] for message in desk.hear()] == [b"body"]


def test_libzmq_s_clients_do_not_notice(desk: Desk) -> None:
    with zmq.Context() as context, context.socket(zmq.REQ) as link:
        link.linger = 0
        link.connect(f"ipc://{desk.path}")
        for number in range(5):
            link.send_multipart([b"%d" % number, b"credential"])
            messages: list[list[bytes]] = []
            while not messages:
                select.select([desk.listener.ear], [], [], 30)
                messages = desk.hear()
            desk.listener.send([messages[0][0], b"", b"answer to " + messages[0][2]])
            assert link.poll(30_000)
            assert link.recv() == b"answer to %d" % number
