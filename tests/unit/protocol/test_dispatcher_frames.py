from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.errors import InvalidInputError
from qslurm.protocol.dispatcher_frames import decode_reply, decode_request, encode
from qslurm.protocol.messages import Attach, GetStatus


@given(st.binary(max_size=200))
def test_rubbish_is_refused_and_nothing_else_happens(body: bytes) -> None:
    for decode in (decode_request, decode_reply):
        with pytest.raises(InvalidInputError):
            decode(body)


def test_what_is_nested_without_end_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        decode_request(b"\x82\xa7message\xa9GetStatus\xa1x" + b"\x91" * 100_000 + b"\x00")


def test_a_number_that_no_database_can_hold_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        decode_request(encode(Attach(job_id=2**60, restart=0, client="x")))


def test_a_message_arrives_as_it_was() -> None:
    assert decode_request(encode(GetStatus())) == GetStatus()
