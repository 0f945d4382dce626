"""What any user of the host can make a server keep is bounded, and other users are served meanwhile."""

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
from qslurm.wire.server import Server
from qslurm.wire.server_limits import ServerLimits
from qslurm.wire.unix_socket import listen_unix

BODY_LIMIT = 8 << 20
LIMITS = ServerLimits(body=BODY_LIMIT)


class Served:
    """A server with a clock of its own, and clients that send raw bytes."""

    def __init__(self, folder: Path, limits: ServerLimits = LIMITS) -> None:
        self.now = 0.0
        self.path = folder / "s"
        self.limits = limits
        self.server = Server(limits, clock=lambda: self.now)
        self.server.listen(listen_unix(self.path, service="server", setting="nothing", backlog=512))
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

    def received(self) -> list[tuple[Address, bytes]]:
        """All requests that have arrived."""
        found, idle = [], 0
        while idle < 2 or self.server.has_buffered:
            before = len(found)
            select.select([self.server], [], [], 0)
            found += list(self.server.receive(64))
            idle = idle + 1 if len(found) == before else 0
        return found

    def is_open(self, client: socket.socket) -> bool:
        self.received()
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
def served(home: Path) -> Iterator[Served]:
    served = Served(home)
    yield served
    served.close()


@pytest.fixture
def small(home: Path) -> Iterator[Served]:
    """One with low limits."""
    served = Served(home, ServerLimits(body=BODY_LIMIT, connections=3, unsent=4 << 20))
    yield served
    served.close()


def ask(client: socket.socket, body: bytes = b"body", number: int = 1) -> None:
    client.sendall(frame(number, body))


def bodies(received: list[tuple[Address, bytes]]) -> list[bytes]:
    return [body for _, body in received]


def test_a_request_is_received_and_answered(served: Served) -> None:
    client = served.client()
    ask(client, number=7)
    ((address, body),) = served.received()
    assert (address.number, body) == (7, b"body")
    assert address.connection.peer is not None
    assert (address.connection.peer.uid, address.connection.peer.pid) == (os.getuid(), os.getpid())
    served.server.send(address, b"answer")
    assert client.recv(4096) == frame(7, b"answer")
    client.close()
    assert served.received() == []
    assert address.connection.is_closed
    served.server.send(address, b"too late")


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
def test_a_connection_that_violates_the_protocol_is_closed_and_others_go_on(
    served: Served, data: bytes
) -> None:
    neighbour, bad = served.client(), served.client()
    served.received()
    bad.setblocking(False)
    for start in range(0, len(data), 1 << 16):
        try:
            bad.sendall(data[start : start + (1 << 16)])
        except (BlockingIOError, ConnectionError):
            break
        served.received()
    ask(neighbour)
    assert bodies(served.received()) == [b"body"]
    assert not served.is_open(bad)
    assert served.is_open(neighbour)


def test_a_first_frame_and_one_that_was_begun_time_out_and_later_silence_does_not(
    served: Served,
) -> None:
    half, silent, shy, quiet = served.client(), served.client(), served.client(b"\0\0"), served.client()
    ask(quiet)
    half.sendall(frame(1, b"x" * 1000)[:500])
    assert bodies(served.received()) == [b"body"]
    assert all(served.is_open(one) for one in (half, silent, shy, quiet))
    assert served.server.check(5.0) == LIMITS.unfinished_s
    served.server.check(LIMITS.unfinished_s + 0.1)
    assert [served.is_open(one) for one in (half, silent, shy, quiet)] == [False, False, False, True]
    assert served.server.check(100.0) == float("inf")


def test_an_added_connection_may_be_silent_as_long_as_it_likes(served: Served) -> None:
    """As `qslurm run`, whose file may compute for an hour before it asks for a first circuit."""
    theirs, ours = socket.socketpair()
    served.clients.append(theirs)
    served.server.add(ours, may_be_silent=True)
    assert served.server.check(LIMITS.unfinished_s + 0.1) == float("inf")
    ask(theirs, b"hello")
    assert bodies(served.received()) == [b"hello"]


def test_incomplete_frames_of_a_user_are_bounded_together(home: Path) -> None:
    served = Served(home, ServerLimits(body=BODY_LIMIT, unread=1 << 20))
    half = frame(1, b"x" * (1 << 19))[:-100]
    clients = [served.client() for _ in range(8)]
    for client in clients:
        client.setblocking(False)
    left = dict.fromkeys(clients, half)
    for _ in range(20):
        for client in clients:
            try:
                left[client] = left[client][client.send(left[client]) :] if left[client] else b""
            except BlockingIOError:
                continue
        assert served.received() == []
    owner = served.server._owners[os.getuid()]
    assert owner.unread <= (1 << 20) + (1 << 18)
    served.now = LIMITS.unfinished_s + 0.1
    served.server.check(served.now)  # the incomplete frames have timed out
    ask(served.client())
    assert bodies(served.received()) == [b"body"]
    served.close()


def test_a_flood_of_requests_is_bounded_and_others_do_not_wait(served: Served) -> None:
    neighbour, eager = served.client(), served.client()
    eager.setblocking(False)
    request = frame(1, b"me")
    for _ in range(10_000):
        try:
            eager.sendall(request)
        except BlockingIOError:
            break
    ask(neighbour)
    received = served.received()
    assert bodies(received).count(b"me") == LIMITS.unanswered
    assert b"body" in bodies(received[:3])
    address = next(address for address, body in received if body == b"me")
    for _ in range(10):
        served.server.send(address, b"answer")
    assert len(served.received()) == 10
    served.server.send(address, b"a word", final=False)
    assert served.received() == []


def test_a_client_that_reads_no_replies_is_not_read_and_then_closed(small: Served) -> None:
    client = small.client()
    for _ in range(3):
        ask(client)
    address, _ = small.received()[0]
    small.server.send(address, bytes(3 << 20))
    ask(client)
    assert small.received() == []
    small.server.send(address, bytes(3 << 20))
    assert address.connection.is_closed


def test_a_large_reply_arrives_and_then_the_next_request_is_received(served: Served) -> None:
    client = served.client()
    ask(client)
    address, _ = served.received()[0]
    served.server.send(address, answer := os.urandom(5 << 20))
    ask(client)
    came = b""
    while len(came) < OVERHEAD + len(answer):
        list(served.server.receive(0))
        came += client.recv(1 << 20)
    assert came[OVERHEAD:] == answer
    assert bodies(served.received()) == [b"body"]


def test_a_user_s_connections_are_bounded_and_closed_ones_make_room(small: Served) -> None:
    first = []
    for _ in range(3):
        first.append(small.client())
        small.received()
    late = small.client()
    assert not small.is_open(late)
    first[0].close()
    small.received()
    assert small.is_open(small.client())
    assert all(small.is_open(one) for one in first[1:])


def test_without_free_descriptors_connections_wait_until_there_are_some(served: Served) -> None:
    neighbour = served.client()
    served.received()
    late = served.client()
    free = os.dup(neighbour.fileno())
    os.close(free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        ask(neighbour)
        assert bodies(served.received()) == [b"body"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    served.now = served.server.check(served.now)
    served.server.check(served.now)
    ask(late)
    assert bodies(served.received()) == [b"body"]
