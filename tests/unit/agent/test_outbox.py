import stat

import pytest

from qslurm.agent.outbox import Outbox
from qslurm.errors import QslurmError

PAYLOAD = {"job": {"name": "bell"}, "script": "#!/bin/sh\n"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def outbox(folder):
    outbox = Outbox(folder)
    yield outbox
    outbox.close()


def test_a_key_is_taken_once(outbox):
    first = outbox.take("key-1", "ann", PAYLOAD)
    again = outbox.take("key-1", "ann", {"job": {}, "script": "another"})
    assert first == again
    assert again.payload == PAYLOAD
    assert len(outbox.open()) == 1


def test_what_was_being_sent_is_known_to_the_next_agent(outbox, folder):
    entry = outbox.take("key-1", "ann", PAYLOAD)
    outbox.sending(entry.number)
    outbox.take("key-2", "ann", PAYLOAD)
    outbox.close()
    with_next = Outbox(folder)
    first = with_next.next_to_send()
    assert (first.key, first.state) == ("key-1", "sending")
    assert (with_next.next_to_send(first.number).key, with_next.next_to_send(first.number).state) == (
        "key-2",
        "waiting",
    )
    with_next.close()


def test_submissions_go_out_in_the_order_they_came(outbox):
    numbers = [outbox.take(f"key-{n}", "ann", PAYLOAD).number for n in range(3)]
    outbox.accepted(numbers[0], 12, {"warnings": [], "message": ""})
    outbox.refused(numbers[1], {"kind": "refused", "message": "no"})
    assert outbox.next_to_send().number == numbers[2]
    assert outbox.next_to_send(numbers[2]) is None
    assert [entry.number for entry in outbox.open("ann")] == [numbers[0], numbers[2]]


def test_a_job_id_that_c2_gives_again_is_the_later_submissions(outbox):
    for key, user in (("key-1", "ann"), ("key-2", "bob")):
        outbox.accepted(outbox.take(key, user, PAYLOAD).number, 12, {})
    assert outbox.of_job(12).user == "bob"
    assert outbox.of_job(13) is None


def test_nobody_else_may_read_it(outbox, folder):
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_folder_that_is_none_is_said(tmp_path):
    (tmp_path / "outbox.db").write_text("this is no database, it is a letter to somebody")
    with pytest.raises(QslurmError, match="can't be opened"):
        Outbox(tmp_path)
