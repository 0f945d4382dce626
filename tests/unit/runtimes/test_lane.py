import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.runtimes.lane import AREA, SIZE, Lane, make_lane


class Ends:
    """Both ends of a lane in one process."""

    def __init__(self):
        descriptors = make_lane()
        self.client = Lane("client", *(os.dup(number) for number in descriptors))
        self.runtime = Lane("runtime", *descriptors)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.runtime.close()


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=10))
def test_whatever_is_asked_and_answered_arrives_in_order(exchanges):
    with Ends() as ends:
        for question, answer in exchanges:
            assert ends.client.request(question)
            assert ends.runtime.wait_request(1.0) == question
            ends.runtime.answer(answer)
            assert ends.client.wait_answer(1.0) == answer


def test_a_sleeping_runtime_is_woken_by_a_request():
    with Ends() as ends:
        heard = []
        runtime = threading.Thread(target=lambda: heard.append(ends.runtime.wait_request(10.0)))
        runtime.start()
        while not ends.runtime._words[18]:  # it has said that it sleeps
            pass
        ends.client.request(b"wake up")
        runtime.join(timeout=5)
        assert heard == [b"wake up"]


def test_nobody_waits_longer_than_told():
    with Ends() as ends:
        assert ends.runtime.wait_request(0.01) is None
        ends.client.request(b"?")
        assert ends.client.wait_answer(0.01) is None


def test_a_request_that_was_put_before_the_lane_closed_is_not_answered_and_the_client_is_told():
    with Ends() as ends:
        assert ends.client.request(b"?")
        ends.runtime.shut()
        assert ends.client.wait_answer(5.0) is None
        assert ends.client.closed
        assert not ends.client.request(b"?")


def test_an_answer_that_was_given_before_the_lane_closed_arrives():
    with Ends() as ends:
        ends.client.request(b"?")
        ends.runtime.wait_request(1.0)
        ends.runtime.answer(b"!")
        ends.runtime.shut()
        assert ends.client.wait_answer(1.0) == b"!"


def test_what_is_too_large_for_a_lane_does_not_go_by_it():
    with Ends() as ends:
        assert not ends.client.request(bytes(AREA + 1))
        assert ends.client.request(bytes(AREA))
        assert ends.runtime.wait_request(1.0) == bytes(AREA)


def test_a_client_that_lies_about_lengths_reads_and_harms_nothing():
    with Ends() as ends:
        ends.client.request(b"?")
        ends.client._words[1] = 2**63
        assert len(ends.runtime.wait_request(1.0)) == AREA
        ends.runtime.answer(b"!")
        ends.client._words[17] = 2**63
        assert ends.client.wait_answer(0.1) is None


def test_neither_side_can_shrink_the_memory_under_the_other():
    memory, *wakers = make_lane()
    with pytest.raises(PermissionError):
        os.ftruncate(memory, 0)
    assert os.fstat(memory).st_size == SIZE
    for number in (memory, *wakers):
        os.close(number)


def test_something_that_is_no_lane_is_refused():
    memory, wake_client, wake_runtime = os.memfd_create("small"), os.eventfd(0), os.eventfd(0)
    with pytest.raises(ValueError, match="no lane"):
        Lane("client", memory, wake_client, wake_runtime)
    for number in (memory, wake_client, wake_runtime):
        os.close(number)
