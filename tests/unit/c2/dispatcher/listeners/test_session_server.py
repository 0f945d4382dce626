"""What strangers at the door for sessions may cost; with a clock of our own."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qslurm.c2.config.dispatcher import SessionsConfig
from qslurm.c2.dispatcher.listeners.session_server import SessionServer
from qslurm.errors import ConfigError
from qslurm.protocol.session_frames import host_and_port
from qslurm.protocol.tls_certificate import have_certificate
from qslurm.wire.handshake_limits import (
    HANDSHAKES_A_SECOND,
    STRANGERS,
    STRANGERS_OF_ONE,
    UNPROVEN_S,
    HandshakeLimits,
)


class Clock:
    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def callers(tmp_path: Path, clock: Clock) -> Iterator[SessionServer]:
    config = SessionsConfig(listen="127.0.0.1:0", key=str(tmp_path / "sessions.key"))
    callers = SessionServer(config, enter=lambda _: None, is_open=lambda _: True, clock=clock)
    yield callers
    callers.close()


def come(callers: SessionServer) -> socket.socket:
    link = socket.create_connection(host_and_port(callers.place), 30)
    assert list(callers.hear(64)) == []
    return link


def is_ended(link: socket.socket) -> bool:
    link.settimeout(0.0)
    try:
        return link.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@dataclass(frozen=True)
class Guest:
    host: str
    number: int = 0


def test_the_oldest_gives_way_where_most_have_come_from() -> None:
    strangers: HandshakeLimits[Guest] = HandshakeLimits(lambda: 0.0)
    anns = [Guest("10.0.0.1", number) for number in range(STRANGERS_OF_ONE - 1)]
    eves = [Guest(f"2001:db8::{number:x}") for number in range(STRANGERS_OF_ONE)]
    for guest in [*anns, *eves]:
        assert strangers.in_the_way(guest.host) is None
        strangers.add(guest)
    assert strangers.in_the_way("10.0.0.1") is None
    assert strangers.in_the_way("2001:db8::ffff") == eves[0]  # one network
    number = 0
    while len(anns) + len(eves) + number < STRANGERS:
        strangers.add(Guest(f"10.1.0.{number}"))
        number += 1
    assert strangers.in_the_way("10.2.0.1") == eves[0]


def test_who_waits_longest_for_its_handshake_is_next() -> None:
    now = [0.0]
    strangers: HandshakeLimits[Guest] = HandshakeLimits(lambda: now[0])
    guests = [Guest("10.0.0.1", number) for number in range(HANDSHAKES_A_SECOND + 3)]
    may = [strangers.may_compute(guest) for guest in guests]
    assert may == [True] * HANDSHAKES_A_SECOND + [False] * 3
    now[0] += 2.5 / HANDSHAKES_A_SECOND
    assert not strangers.may_compute(guests[0])  # others were there before
    assert [strangers.next_patient() for _ in range(3)] == [*guests[-3:-1], None]
    assert strangers.may_compute(guests[-3])
    assert not strangers.may_compute(guests[-1])


def test_one_address_has_few_strangers_and_they_do_not_stay(callers: SessionServer, clock: Clock) -> None:
    links = [come(callers) for _ in range(STRANGERS_OF_ONE + 1)]
    assert [is_ended(link) for link in links] == [True] + [False] * STRANGERS_OF_ONE
    assert callers.look(clock.now) <= clock.now + UNPROVEN_S + 0.1
    clock.now += UNPROVEN_S + 0.1
    callers.look(clock.now)
    assert all(is_ended(link) for link in links)
    links.append(come(callers))
    assert not is_ended(links[-1])
    for link in links:
        link.close()


def test_handshakes_that_are_too_many_wait_for_their_second(callers: SessionServer, clock: Clock) -> None:
    for _ in range(HANDSHAKES_A_SECOND):
        with come(callers) as link:
            link.sendall(b"this is no handshake")
            list(callers.hear(64))
    with come(callers) as link:
        link.sendall(b"nor is this")
        list(callers.hear(64))
        assert not is_ended(link)
        clock.now += 0.1
        callers.look(clock.now)
        list(callers.hear(64))
        assert is_ended(link)


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    key = tmp_path / "sessions.key"
    have_certificate(key)
    have_certificate(key)  # it is kept
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="others may use it"):
        have_certificate(key)
