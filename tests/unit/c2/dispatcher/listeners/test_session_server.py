"""The limits of connections to the session server that are not authenticated."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qslurm.c2.config.dispatcher_section import SessionsConfig
from qslurm.c2.dispatcher.listeners.session_server import SessionServer
from qslurm.errors import ConfigError
from qslurm.protocol.session_frames import host_and_port
from qslurm.protocol.tls_certificate import ensure_certificate
from qslurm.wire.server_limits import HandshakeLimits

HANDSHAKE = HandshakeLimits()


class Clock:
    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(tmp_path: Path, clock: Clock) -> Iterator[SessionServer]:
    config = SessionsConfig(listen="127.0.0.1:0", key=str(tmp_path / "sessions.key"))
    sessions = SessionServer(config, authenticate=lambda _: None, is_open=lambda _: True, clock=clock)
    yield sessions
    sessions.close()


def come(sessions: SessionServer) -> socket.socket:
    link = socket.create_connection(host_and_port(sessions.address), 30)
    assert list(sessions.receive(64)) == []
    return link


def is_ended(link: socket.socket) -> bool:
    link.settimeout(0.0)
    try:
        return link.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_unauthenticated_connections_of_one_address_are_few_and_time_out(
    sessions: SessionServer, clock: Clock
) -> None:
    links = [come(sessions) for _ in range(HANDSHAKE.per_network + 1)]
    assert [is_ended(link) for link in links] == [True] + [False] * HANDSHAKE.per_network
    assert sessions.check(clock.now) <= clock.now + HANDSHAKE.timeout_s + 0.1
    clock.now += HANDSHAKE.timeout_s + 0.1
    sessions.check(clock.now)
    assert all(is_ended(link) for link in links)
    links.append(come(sessions))
    assert not is_ended(links[-1])
    for link in links:
        link.close()


def test_handshakes_that_are_too_many_wait_for_their_second(sessions: SessionServer, clock: Clock) -> None:
    for _ in range(HANDSHAKE.steps_per_s):
        with come(sessions) as link:
            link.sendall(b"this is no handshake")
            list(sessions.receive(64))
    with come(sessions) as link:
        link.sendall(b"nor is this")
        list(sessions.receive(64))
        assert not is_ended(link)
        clock.now += 0.1
        sessions.check(clock.now)
        list(sessions.receive(64))
        assert is_ended(link)


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    key = tmp_path / "sessions.key"
    ensure_certificate(key)
    ensure_certificate(key)  # it is kept
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="other users can read it"):
        ensure_certificate(key)
