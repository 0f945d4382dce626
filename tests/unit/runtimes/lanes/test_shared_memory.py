import os
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.runtimes.lanes.shared_memory import AREA, SIZE, Lane, OwnedLane, Spinner, poll_of, sleep


class Ends:
    """Both ends of a lane in one process."""

    def __init__(self):
        self.owned = OwnedLane()
        self.client = Lane("client", *map(os.dup, self.owned.for_client))
        self.runtime = Lane("runtime", *map(os.dup, self.owned.for_runtime))

    def heard(self, timeout_s=30.0):
        """The next request, as the runtime waits for it."""
        runtime = self.runtime
        if not Spinner().spin(lambda: runtime.has_request, 1, timeout_s):
            sleep(lambda: runtime.has_request, time.perf_counter() + timeout_s, [runtime], poll_of([runtime]))
        return runtime.take() if runtime.has_request else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.runtime.close()
        self.owned.close()


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=10))
def test_whatever_is_asked_and_answered_arrives_in_order(exchanges):
    with Ends() as ends:
        for question, answer in exchanges:
            assert ends.client.request(question)
            assert ends.heard() == question
            ends.runtime.answer(answer)
            assert ends.client.wait_answer(30.0) == answer


def test_a_sleeping_runtime_is_woken_by_a_request():
    with Ends() as ends:
        heard = []
        runtime = threading.Thread(target=lambda: heard.append(ends.heard(30.0)))
        runtime.start()
        while not ends.runtime.words[18]:  # it has said that it sleeps
            pass
        ends.client.request(b"wake up")
        runtime.join(timeout=30)
        assert heard == [b"wake up"]


def test_nobody_waits_longer_than_told():
    with Ends() as ends:
        assert ends.heard(0.01) is None
        ends.client.request(b"?")
        assert ends.client.wait_answer(0.01) is None


def test_a_request_that_was_put_before_the_lane_closed_is_not_answered_and_the_client_is_told():
    with Ends() as ends:
        assert ends.client.request(b"?")
        ends.runtime.mark_closed()
        assert ends.client.wait_answer(5.0) is None
        assert ends.client.closed
        assert not ends.client.request(b"?")


def test_an_answer_that_was_given_before_the_lane_closed_arrives():
    with Ends() as ends:
        ends.client.request(b"?")
        ends.heard()
        ends.runtime.answer(b"!")
        ends.runtime.mark_closed()
        assert ends.client.wait_answer(1.0) == b"!"


def test_what_is_too_large_for_a_lane_does_not_go_by_it():
    with Ends() as ends:
        assert not ends.client.request(bytes(AREA + 1))
        assert ends.client.request(bytes(AREA))
        assert ends.heard() == bytes(AREA)


def test_a_client_that_lies_about_lengths_reads_and_harms_nothing():
    with Ends() as ends:
        ends.client.request(b"?")
        ends.client.words[1] = 2**63
        assert len(ends.heard()) == AREA
        ends.runtime.answer(b"!")
        ends.client.words[17] = 2**63
        assert ends.client.wait_answer(0.1) is None


def test_neither_side_can_shrink_the_memory_under_the_other():
    with Ends() as ends:
        memory, _ = ends.owned.for_client
        with pytest.raises(PermissionError):
            os.ftruncate(memory, 0)
        assert os.fstat(memory).st_size == SIZE


def test_a_client_that_hangs_up_keeps_nobody_waiting_and_one_that_fills_its_socket_blocks_nobody():
    with Ends() as ends:
        _, wire = ends.owned.for_client
        client = socket.socket(fileno=os.dup(wire))
        client.setblocking(True)
        ends.client.set_asleep(True)
        ends.client.request(b"?")
        ends.heard()
        for _ in range(10_000):  # more than any socket holds
            ends.runtime.answer(b"!")
        client.shutdown(socket.SHUT_RDWR)
        assert ends.heard(30.0) is None
        assert ends.runtime.is_closed_by_peer
        client.close()


def test_something_that_is_no_lane_is_refused():
    memory = os.memfd_create("small")
    with pytest.raises(ValueError, match="invalid lane"):
        Lane("client", memory, memory)
    os.close(memory)


def looks(spinner, answers, lanes=1):
    """How often it looked, waiting once for something that is there at the given look (None: never)."""
    found = []

    def ready():
        found.append(None)
        return len(found) == answers

    spinner.spin(ready, lanes, 0.0001)
    return len(found)


def test_a_side_spins_while_that_finds_something_and_sleeps_at_once_when_it_has_been_in_vain():
    spinner = Spinner(cores=2)
    assert looks(spinner, 5) == 5
    assert looks(spinner, None) > 1
    assert looks(spinner, 5) == 5, "once in vain is no reason"
    assert looks(spinner, None) > 1
    assert looks(spinner, None) > 1
    rare = [looks(spinner, None) for _ in range(128)]
    assert sum(number > 1 for number in rare) == 2, "now and then it tries again"
    until_of_use = [looks(spinner, 5) for _ in range(64)]
    assert until_of_use.count(5) > 0
    assert looks(spinner, 5) == 5, "and goes on once that was of use"


def test_nobody_spins_where_others_need_the_core():
    assert looks(Spinner(cores=2), 5, lanes=2) == 1
    assert looks(Spinner(cores=1), 5, lanes=1) == 1
