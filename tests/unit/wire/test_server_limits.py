"""Connections that have not authenticated are few, and their handshakes take turns."""

from __future__ import annotations

from dataclasses import dataclass

from qslurm.wire.server_limits import HandshakeLimits, PendingHandshakes

LIMITS = HandshakeLimits(connections=20, per_network=4, steps_per_s=10)


@dataclass(frozen=True)
class Pending:
    host: str
    number: int = 0


def test_the_oldest_connection_of_the_busiest_network_is_evicted() -> None:
    handshakes: PendingHandshakes[Pending] = PendingHandshakes(LIMITS, lambda: 0.0)
    ipv4 = [Pending("10.0.0.1", number) for number in range(LIMITS.per_network - 1)]
    ipv6 = [Pending(f"2001:db8::{number:x}") for number in range(LIMITS.per_network)]
    for pending in [*ipv4, *ipv6]:
        assert handshakes.to_evict(pending.host) is None
        handshakes.add(pending)
    assert handshakes.to_evict("10.0.0.1") is None
    assert handshakes.to_evict("2001:db8::ffff") == ipv6[0]  # one /64 network
    for number in range(LIMITS.connections - len(ipv4) - len(ipv6)):
        handshakes.add(Pending(f"10.1.0.{number}"))
    assert handshakes.to_evict("10.2.0.1") == ipv6[0]


def test_the_handshake_that_has_waited_longest_continues_first() -> None:
    now = [0.0]
    handshakes: PendingHandshakes[Pending] = PendingHandshakes(LIMITS, lambda: now[0])
    pending = [Pending("10.0.0.1", number) for number in range(LIMITS.steps_per_s + 3)]
    may = [handshakes.may_continue(one) for one in pending]
    assert may == [True] * LIMITS.steps_per_s + [False] * 3
    now[0] += 2.5 / LIMITS.steps_per_s
    assert not handshakes.may_continue(pending[0])  # others wait already
    assert [handshakes.resume() for _ in range(3)] == [*pending[-3:-1], None]
    assert handshakes.may_continue(pending[-3])
    assert not handshakes.may_continue(pending[-1])
