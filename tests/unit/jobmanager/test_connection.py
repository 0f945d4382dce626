"""Connections that keep others waiting."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from qslurm.jobmanager import connection

if TYPE_CHECKING:
    from tests.unit.jobmanager.conftest import Manager

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def raw(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    monkeypatch.setattr(connection, "REQUEST_S", 0.1)
    parts = urlsplit(manager.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)


@pytest.mark.parametrize("begun", [b"", b"GET", REQUEST, REQUEST + b"X: "])
def test_a_request_that_does_not_come_to_its_end_is_not_waited_for(raw: socket.socket, begun: bytes) -> None:
    with raw:
        raw.sendall(begun)
        assert raw.recv(1) == b""


def test_a_second_request_has_a_time_of_its_own(raw: socket.socket) -> None:
    with raw:
        raw.sendall(REQUEST + b"\r\n")
        first = b""
        while not first.endswith(b'{"status":"ok"}'):  # head and body may come one by one
            piece = raw.recv(1 << 16)
            assert piece
            first += piece
        assert first.startswith(b"HTTP/1.1 200")
        raw.sendall(REQUEST + b"\r\n" + REQUEST)
        answer = b""
        while piece := raw.recv(1 << 16):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 200")
