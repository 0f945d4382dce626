"""Connections that keep others waiting. The clock is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from qslurm.c2.jobmanager.http_connection import MOST_IDLE, REQUEST_S, UNREAD_S, LimitedHttpProtocol

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


class Loop(asyncio.SelectorEventLoop):
    """An event loop on which time passes when a test says so."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def pass_time(self, seconds: float = 0.0) -> None:
        """Let time pass, and run what is due."""
        self.now += seconds
        self.run_until_complete(self._some_rounds())

    async def _some_rounds(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


class Client(asyncio.Transport):
    """The other side of a connection, as the server sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = b""
        self.is_closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def write(self, data: Any) -> None:
        self.answer += bytes(data)

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


async def healthy(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers any request."""
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.pass_time()
    loop.close()


@pytest.fixture
def connect(loop: Loop) -> Callable[[], tuple[LimitedHttpProtocol, Client]]:
    """Makes connections of one server."""
    config = uvicorn.Config(healthy, lifespan="off", log_level="critical", timeout_keep_alive=3600)
    state = ServerState()

    def one() -> tuple[LimitedHttpProtocol, Client]:
        protocol, client = LimitedHttpProtocol(config, state, {}, _loop=loop), Client()
        protocol.connection_made(client)
        return protocol, client

    return one


Connect = Callable[[], tuple[LimitedHttpProtocol, Client]]


@pytest.mark.parametrize("begun", [b"", b"GET", REQUEST, REQUEST + b"X: "])
def test_a_request_that_does_not_come_to_its_end_is_not_waited_for(
    loop: Loop, connect: Connect, begun: bytes
) -> None:
    server, client = connect()
    if begun:
        server.data_received(begun)
    loop.pass_time(REQUEST_S - 0.1)
    assert not client.is_closed
    loop.pass_time(0.2)
    assert client.is_closed
    assert client.answer == b""


def test_a_byte_now_and_then_gives_a_request_no_more_time(loop: Loop, connect: Connect) -> None:
    server, client = connect()
    for byte in REQUEST[:12]:
        server.data_received(bytes([byte]))
        loop.pass_time(REQUEST_S / 10)
    assert client.is_closed


def test_a_second_request_has_a_time_of_its_own(loop: Loop, connect: Connect) -> None:
    server, client = connect()
    loop.pass_time(REQUEST_S - 0.1)
    server.data_received(REQUEST + b"\r\n")
    loop.pass_time()
    assert client.answer.startswith(b"HTTP/1.1 200")
    loop.pass_time(10 * REQUEST_S)  # between two requests it may be silent
    server.data_received(REQUEST)
    loop.pass_time(REQUEST_S - 0.1)
    assert not client.is_closed
    server.data_received(b"X: ")
    loop.pass_time(0.2)
    assert client.is_closed


def test_who_takes_no_answer_is_hung_up_on(loop: Loop, connect: Connect) -> None:
    server, client = connect()
    server.pause_writing()
    server.resume_writing()
    loop.pass_time(REQUEST_S - 0.1)
    server.data_received(REQUEST + b"\r\n")
    server.pause_writing()
    loop.pass_time(UNREAD_S - 0.1)
    assert not client.is_closed
    loop.pass_time(0.2)
    assert client.is_closed


def test_those_that_say_nothing_give_way_to_who_comes_later(loop: Loop, connect: Connect) -> None:
    links = [connect() for _ in range(MOST_IDLE)]
    links[1][0].data_received(REQUEST)  # begun: it waits like one that says nothing
    links += [connect() for _ in range(2)]
    assert [client.is_closed for _, client in links] == [True, True, *[False] * MOST_IDLE]
    server, client = links[2]
    server.data_received(REQUEST + b"\r\n")
    loop.pass_time()
    assert client.answer.startswith(b"HTTP/1.1 200")
