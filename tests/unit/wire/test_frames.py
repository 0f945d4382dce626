"""What travels is taken apart whatever pieces it comes in, and nothing that is too long is kept."""

from __future__ import annotations

import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.errors import QslurmError, RefusedError, TooOftenError
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.failures import Failed, error_of, failure
from qslurm.wire.frames import (
    CREDENTIAL_LIMIT,
    OVERHEAD,
    FrameError,
    FrameReader,
    frame,
    open_signed,
    read_head,
    signed_frame,
)


@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=300)), max_size=8),
    st.lists(st.integers(1, 200)),
)
def test_frames_come_out_as_they_went_in_whatever_pieces_they_come_in(
    sent: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    reader, data, taken = FrameReader(300), b"".join(frame(*one) for one in sent), []
    for size in [*cuts, len(data)]:
        reader.feed(data[:size])
        data = data[size:]
        while (one := reader.take()) is not None:
            taken.append(one)
    assert taken == sent
    assert len(reader) == 0


@given(st.binary(max_size=300))
def test_what_is_missing_never_reaches_beyond_the_frame(body: bytes) -> None:
    reader, data = FrameReader(300), frame(7, body) + frame(8, b"next")
    while reader.take() is None:
        wanted = reader.missing
        reader.feed(data[:wanted])
        data = data[wanted:]
    assert data == frame(8, b"next")


@pytest.mark.parametrize(
    "head", [bytes(OVERHEAD), (8 + 101).to_bytes(4, "big") + bytes(8), b"\xff" * OVERHEAD]
)
def test_a_frame_that_is_too_long_or_none_is_refused_by_its_head(head: bytes) -> None:
    reader = FrameReader(100)
    reader.feed(head)
    with pytest.raises(FrameError):
        reader.take()


def test_a_body_is_signed_by_what_stands_beside_it() -> None:
    data = signed_frame(3, b"body", b"credential")
    assert read_head(data[:OVERHEAD], 100) == (3, len(data) - OVERHEAD)
    signed = open_signed(data[OVERHEAD:])
    assert (signed.body, signed.credential) == (b"body", b"credential")


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x90", signed_frame(0, b"", bytes(CREDENTIAL_LIMIT + 1))[OVERHEAD:]]
)
def test_what_is_not_signed_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        open_signed(body)


@pytest.mark.parametrize("data", [b"", b"\0\0\0", frame(0, b"answer")[:-1]])
def test_an_answer_that_is_cut_off_or_late_is_none(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs, BlockingConnection(ours, 100) as connection:
        theirs.sendall(data)
        with pytest.raises(TimeoutError):
            connection.receive(time.monotonic() + 0.01)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionResetError if data else EOFError):
            connection.receive(time.monotonic() + 30.0)


def test_errors_travel_as_what_they_are() -> None:
    error = RefusedError("No such account.", hint="Ask.")
    error.slurm_error = 2045
    back = error_of(failure(error))
    assert isinstance(back, RefusedError)
    assert (back.message, back.hint, back.slurm_error) == ("No such account.", "Ask.", 2045)
    assert isinstance(error_of(failure(TooOftenError("Too often."))), TooOftenError)
    assert type(error_of(Failed("of a later version", "Odd."))) is QslurmError
