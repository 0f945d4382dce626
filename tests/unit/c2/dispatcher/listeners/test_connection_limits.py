"""Who may have how many connections."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import zmq

from qslurm.c2.dispatcher.listeners.connection_limits import ConnectionLimits, allow_many_descriptors

Keep = Callable[..., ConnectionLimits]
Connect = Callable[[], socket.socket]


@pytest.fixture
def listener() -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        yield router


@pytest.fixture
def keep(listener: zmq.Socket[bytes]) -> Iterator[Keep]:
    made: list[ConnectionLimits] = []

    def keep(most: int) -> ConnectionLimits:
        made.append(ConnectionLimits(listener, most=most))
        return made[-1]

    yield keep
    for keeper in made:
        keeper.close()


@pytest.fixture
def connect(listener: zmq.Socket[bytes]) -> Iterator[Connect]:
    opened: list[socket.socket] = []

    def connect() -> socket.socket:
        if not opened:
            listener.bind_to_random_port("tcp://127.0.0.1")
        port = listener.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2]
        connection = socket.create_connection(("127.0.0.1", int(port)), timeout=20)
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.close()


def hear(keeper: ConnectionLimits, events: int) -> None:
    """Let it hear of so many events, one after the other."""
    for _ in range(events):
        assert keeper.monitor.poll(20_000)
        keeper.process_events()


def is_open(connection: socket.socket) -> bool:
    """ZeroMQ greets whom it has accepted; after that, one that was ended says so."""
    greeting = connection.recv(64)
    connection.settimeout(0.05)
    try:
        return bool(greeting) and connection.recv(64) != b""
    except TimeoutError:
        return True


def settle(keeper: ConnectionLimits, done: Callable[[], bool]) -> None:
    while not done():
        assert keeper.monitor.poll(20_000)
        keeper.process_events()


def test_a_host_that_has_many_gets_no_more_and_new_ones_when_old_ones_go(
    keep: Keep, connect: Connect
) -> None:
    keeper = keep(3)
    host = "127.0.0.1"
    first = [connect() for _ in range(3)]
    settle(keeper, lambda: keeper.connections(host) == 3)
    late = connect()
    hear(keeper, 1)
    with suppress(ConnectionResetError):
        while late.recv(64):
            continue
    settle(keeper, lambda: keeper.connections(host) == 3)
    assert all(is_open(connection) for connection in first)
    first[0].close()
    settle(keeper, lambda: keeper.connections(host) == 2)
    another = connect()
    settle(keeper, lambda: keeper.connections(host) == 3)
    assert is_open(another)


def test_the_system_s_limit_is_made_use_of() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[1]), before[1]))
    try:
        allow_many_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(before[1], 1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
