import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.protocol.messages import Executed
from qslurm.runtimes.lanes.logbook import RECORD_LIMIT, SIZE, Logbook, LogbookRecord, memory_logbook

DIGEST = "ab" * 32


def record(seq, counts=None):
    executed = Executed(seq=seq, shots_requested=8, shots_done=8, counts=counts or {"0": 8}, seconds=0.001)
    return LogbookRecord(7, DIGEST, executed)


@pytest.fixture
def descriptor():
    made = memory_logbook()
    yield made
    os.close(made)


def end_of(descriptor):
    """Where the records end, as the first word of the logbook says."""
    return int.from_bytes(os.pread(descriptor, 8, 0), "little")


@pytest.fixture
def books(descriptor):
    """The runtime's view and the dispatcher's."""
    written, read = Logbook(descriptor), Logbook(descriptor)
    read.renew()
    yield written, read
    written.close()
    read.close()


@given(
    st.lists(
        st.dictionaries(st.text("01", min_size=1, max_size=9), st.integers(1, 10**6), max_size=4), max_size=20
    )
)
def test_what_is_written_is_read_once_in_order_however_often_one_looks(counts):
    descriptor = memory_logbook()
    written, read = Logbook(descriptor), Logbook(descriptor)
    found = []
    for seq, one in enumerate(counts):
        written.append(record(seq, one))
        if seq % 3 == 0:
            found += read.read()
    found += read.read()
    assert found == [record(seq, one) for seq, one in enumerate(counts)]
    written.close()
    read.close()
    os.close(descriptor)


def test_a_record_that_was_being_written_when_its_runtime_died_does_not_count(books, descriptor):
    written, read = books
    written.append(record(0))
    end = end_of(descriptor)
    written.append(record(1))
    os.pwrite(
        descriptor, (end + 5).to_bytes(8, "little"), 0
    )  # as far as the next record's head, and no further
    assert [one.executed.seq for one in read.read()] == [0]


def test_a_damaged_record_and_what_follows_it_are_not_believed(books, descriptor):
    written, read = books
    for seq in range(3):
        written.append(record(seq))
    middle = 4096 + end_of(descriptor) // 3 + 20
    (byte,) = os.pread(descriptor, 1, middle)
    os.pwrite(descriptor, bytes([byte ^ 0xFF]), middle)
    assert [one.executed.seq for one in read.read()] == [0]


def test_a_logbook_that_begins_anew_has_forgotten_everything(books):
    written, read = books
    written.append(record(0))
    read.stop()
    assert written.stopped
    read.renew()
    assert not written.stopped
    assert list(read.read()) == []
    written.append(record(1))
    assert [one.executed.seq for one in read.read()] == [1]


def test_a_full_logbook_says_so_before_anything_is_lost(books, descriptor):
    written, _ = books
    large = record(0, {f"{number:064b}": number + 1 for number in range(10_000)})
    while written.has_room:
        written.append(large)
    assert SIZE - 4096 - end_of(descriptor) < RECORD_LIMIT + 8


def test_the_execution_under_way_is_known_by_its_number_and_digest(books):
    written, read = books
    assert read.busy() is None
    written.begin(7, 5, DIGEST)
    busy = read.busy()
    assert (busy.task, busy.seq, busy.circuit_sha256) == (7, 5, DIGEST)
    assert read.idle_s() == 0.0
    written.append(record(5))
    assert read.busy() is None
    written.begin(7, 6, DIGEST)
    written.give_back(begun=False)
    assert read.busy() is None
