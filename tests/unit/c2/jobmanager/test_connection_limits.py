"""Connections that keep others waiting."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from qslurm.c2.jobmanager import connection_limits

if TYPE_CHECKING:
    from tests.unit.c2.jobmanager.conftest import Manager

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def raw(manager: Manager) -> Iterator[socket.socket]:
    parts = urlsplit(manager.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60) as connected:
        yield connected


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "REQUEST_S", 0.1)


@pytest.mark.parametrize("begun", [b"", b"GET", REQUEST, REQUEST + b"X: "])
def test_a_request_that_does_not_come_to_its_end_is_not_waited_for(
    hasty: None, raw: socket.socket, begun: bytes
) -> None:
    raw.sendall(begun)
    assert raw.recv(1) == b""


def test_a_second_request_has_a_time_of_its_own(raw: socket.socket, request: pytest.FixtureRequest) -> None:
    raw.sendall(REQUEST + b"\r\n")
    assert answer(raw).startswith(b"HTTP/1.1 200")
    raw.sendall(REQUEST + b"\r\n" + REQUEST)
    assert answer(raw).startswith(b"HTTP/1.1 200")
    request.getfixturevalue("hasty")
    raw.sendall(b"X: ")
    assert raw.recv(1) == b""


def test_those_that_say_nothing_give_way_to_who_comes_later(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limits, "MOST_IDLE", 2)
    parts = urlsplit(manager.url)
    place = (parts.hostname or "", parts.port or 0)
    with ExitStack() as all_:
        links = [all_.enter_context(socket.create_connection(place, timeout=60)) for _ in range(2)]
        links[1].sendall(REQUEST)  # begun: it waits like one that says nothing
        links += [all_.enter_context(socket.create_connection(place, timeout=60)) for _ in range(2)]
        assert all(is_closed(link) for link in links[:2])
        links[2].sendall(REQUEST + b"\r\n")
        assert answer(links[2]).startswith(b"HTTP/1.1 200")


def is_closed(raw: socket.socket) -> bool:
    try:
        return raw.recv(1) == b""
    except ConnectionResetError:  # it had not read what we sent
        return True


def answer(raw: socket.socket) -> bytes:
    found = b""
    while not found.endswith(b'{"status":"ok"}'):  # head and body may come one by one
        piece = raw.recv(1 << 16)
        assert piece
        found += piece
    return found
