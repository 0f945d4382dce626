"""ZeroMQ's wire, read by us: libzmq's clients are understood, everything else is bounded or ended."""

from __future__ import annotations

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from qslurm.protocol.zmtp import GREETING, Wire, WireError, pack

READY = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03REQ"


def wire(limit: int = 1000) -> Wire:
    return Wire(limit=limit, slack=100, frames=4)


def ready(limit: int = 1000) -> Wire:
    one = wire(limit)
    one.feed(GREETING + READY)
    assert one.take() is None
    assert one.ready and len(one) == 0
    return one


def messages(one: Wire) -> list[list[bytes]]:
    found = []
    while (message := one.take()) is not None:
        found.append(message)
    return found


@given(
    st.lists(st.lists(st.binary(max_size=300), min_size=1, max_size=4), max_size=5),
    st.lists(st.integers(1, 400), max_size=50),
)
def test_messages_come_out_as_they_went_in_however_they_are_cut(
    sent: list[list[bytes]], cuts: list[int]
) -> None:
    data, one, found = GREETING + READY + b"".join(pack(frames) for frames in sent), wire(2000), []
    for cut in [*cuts, len(data)]:
        one.feed(data[:cut])
        data = data[cut:]
        found += messages(one)
    assert found == sent
    assert len(one) == 0


@given(st.binary(max_size=200))
def test_rubbish_is_an_error_or_waits_for_more(data: bytes) -> None:
    for one in (wire(), ready()):
        one.feed(data)
        try:
            messages(one)
        except WireError:
            continue
        assert len(one) <= len(data)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (pack([b"x" * 1001]), "too long"),
        (b"\x02" + (1 << 62).to_bytes(8, "big"), "too long"),
        (pack([b"", b"", b"", b"", b""]), "too long"),
        (pack([b"x" * 600, b"x" * 600]), "too long"),
        (b"\x06" + (600).to_bytes(8, "big"), "command"),
        (b"\x08\x00", "rubbish"),
        (b"\x04\x07\x05ERROR\x00", "complains"),
    ],
)
def test_what_breaks_a_limit_is_known_before_it_is_there(data: bytes, word: str) -> None:
    one = ready()
    one.feed(data[:2000])
    with pytest.raises(WireError, match=word):
        messages(one)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1",
        GREETING.replace(b"NULL", b"PLAI"),
        GREETING.replace(b"\x7f\x03", b"\x7f\x02"),
        GREETING + pack([b"x"]),
        GREETING + READY.replace(b"REQ", b"SUB"),
    ],
)
def test_who_speaks_something_else_is_no_client(data: bytes) -> None:
    one = wire()
    one.feed(data)
    with pytest.raises(WireError):
        one.take()


def test_a_ping_is_answered_with_its_own_words() -> None:
    one = ready()
    one.reply.clear()
    one.feed(b"\x04\x0a\x04PING\x00\x10abc")
    assert one.take() is None
    assert one.reply == b"\x04\x08\x04PONGabc"


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER])
def test_libzmq_writes_what_is_read_here(kind: int) -> None:
    import socket

    with socket.socket() as listener, zmq.Context() as context, context.socket(kind) as link:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        link.linger = 0
        link.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        frames = [b"body" * 100, b"credential"]
        link.send_multipart(frames if kind == zmq.REQ else [b"", *frames])
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(30)
            one = wire()
            while (message := one.take()) is None:
                connection.sendall(one.reply)
                one.reply.clear()
                one.feed(connection.recv(4096))
            connection.sendall(pack([b"", b"answer"]))
            assert link.poll(30_000)
            assert message == [b"", *frames]
            assert link.recv_multipart()[-1] == b"answer"
