import json
import sqlite3
import stat

import pytest

from qslurm.c1.agent.outbox import Outbox
from qslurm.errors import ConfigError, NoRoomError, QslurmError, UnreachableError

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
    first = outbox.add("key-1", "ann", PAYLOAD)
    again = outbox.add("key-1", "ann", {"job": {}, "script": "another"})
    assert first == again
    assert outbox.next_to_send().payload == PAYLOAD
    assert len(outbox.open_entries()) == 1


def test_a_list_of_submissions_does_not_have_their_scripts(outbox):
    """A thousand of 4 MB are a list like any other, and are not kept when they have ended."""
    job = {"name": "x", "partition": "p_qx", "account": "a", "comment": "c", "array": "0-3"}
    number = outbox.add(
        "key-1", "ann", {"job": job | {"environment": ["A=1"]}, "script": "#!/bin/sh\n"}
    ).number
    for (listed,) in (outbox.open_entries(), outbox.latest("ann", 9), outbox.by_number([number])):
        assert listed.payload == {"job": job}
    assert outbox.open_arrays("ann") == ["0-3"]
    outbox.mark_accepted(number, 12, {})
    outbox.mark_for_resubmission(number)
    assert outbox.next_to_send().payload["script"] == "#!/bin/sh\n"
    outbox.mark_ended([number])
    outbox.mark_refused(outbox.add("key-2", "ann", PAYLOAD).number, {})
    assert outbox._reader.execute("SELECT count(*) FROM payloads").fetchone() == (0,)


def test_what_an_older_qslurm_has_written_is_taken_over(folder):
    folder.mkdir()
    with sqlite3.connect(folder / "outbox.db") as store:
        store.executescript(
            "CREATE TABLE submissions (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, user TEXT NOT NULL,"
            " payload TEXT NOT NULL, state TEXT NOT NULL, job_id INTEGER, answer TEXT NOT NULL DEFAULT '{}',"
            " ended INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL) STRICT; PRAGMA user_version = 1;"
        )
        for key, state, ended in (("old", "accepted", 1), ("new", "waiting", 0)):
            store.execute(
                "INSERT INTO submissions (key, user, payload, state, ended, created) VALUES (?, 'ann', ?, ?, ?, 0)",
                (key, json.dumps(PAYLOAD), state, ended),
            )
    store.close()
    for times in range(2):
        outbox = Outbox(folder)
        assert [entry.payload for entry in outbox.latest("ann", 9)] == [{"job": {"name": "bell"}}] * 2
        assert outbox.by_key("new").resent == times
        outbox.mark_accepted(2, 12, {})
        outbox.mark_for_resubmission(2)
        assert outbox.next_to_send().payload == PAYLOAD
        outbox.close()


def test_what_was_being_sent_is_known_to_the_next_agent(outbox, folder):
    entry = outbox.add("key-1", "ann", PAYLOAD)
    outbox.mark_sending(entry.number)
    outbox.add("key-2", "ann", PAYLOAD)
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
    numbers = [outbox.add(f"key-{n}", "ann", PAYLOAD).number for n in range(3)]
    outbox.mark_accepted(numbers[0], 12, {"warnings": [], "message": ""})
    outbox.mark_refused(numbers[1], {"kind": "refused", "message": "no"})
    assert outbox.next_to_send().number == numbers[2]
    assert outbox.next_to_send(numbers[2]) is None
    assert [entry.number for entry in outbox.open_entries("ann")] == [numbers[0], numbers[2]]


def test_a_job_id_that_c2_gives_again_is_the_later_submissions(outbox):
    for key, user in (("key-1", "ann"), ("key-2", "bob")):
        outbox.mark_accepted(outbox.add(key, user, PAYLOAD).number, 12, {})
    assert outbox.by_job(12).user == "bob"
    assert outbox.by_job(13) is None


def test_nobody_else_may_read_it(outbox, folder):
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_folder_that_is_none_is_said(tmp_path):
    (tmp_path / "outbox.db").write_text("this is no database, it is a letter to somebody")
    with pytest.raises(QslurmError, match="is damaged"):
        Outbox(tmp_path)


def test_no_second_agent_sends_what_is_in_it(outbox, folder):
    with pytest.raises(UnreachableError, match="Another agent"):
        Outbox(folder)


def test_what_a_newer_qslurm_has_written_is_not_touched(outbox, folder):
    outbox.close()
    with sqlite3.connect(folder / "outbox.db") as store:
        store.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(ConfigError, match="newer version of qslurm"):
        Outbox(folder)


def test_a_submission_whose_job_c2_forgot_keeps_its_old_id_as_another_name(outbox):
    number = outbox.add("key-1", "ann", PAYLOAD).number
    outbox.mark_accepted(number, 12, {})
    outbox.mark_for_resubmission(number)
    assert (outbox.next_to_send().key, outbox.by_job(12).job_id, outbox.open_jobs()) == ("key-1", None, [])
    outbox.mark_accepted(outbox.add("key-2", "bob", PAYLOAD).number, 12, {})
    assert (outbox.by_job(12).user, outbox.by_job(12, "ann").key) == ("bob", "key-1")
    assert outbox.current_job_id(12, before=2) is None
    outbox.mark_accepted(number, 15, {})
    assert (outbox.by_job(12, "ann").job_id, outbox.by_job(15).key) == (15, "key-1")
    assert [
        outbox.current_job_id(12, before=2),
        outbox.current_job_id(12, before=3),
        outbox.current_job_id(99, before=3),
    ] == [15, 12, 99]


def test_only_what_waits_can_be_given_up(outbox):
    number = outbox.add("key-1", "ann", PAYLOAD).number
    outbox.mark_sending(number)
    assert not outbox.cancel_waiting(number, {"kind": "job_cancelled", "message": "cancelled"})
    outbox.mark_waiting(number)
    assert outbox.cancel_waiting(number, {"kind": "job_cancelled", "message": "cancelled"})
    assert not outbox.mark_sending(number)
    assert outbox.next_to_send() is None


def test_a_full_disk_is_said_and_loses_nothing(folder):
    """The file may not grow: SQLite then says what it says of a full disk."""
    outbox = Outbox(folder)
    large = {"job": {}, "script": "x" * 20_000}
    number = outbox.add("key-0", "ann", large).number
    pages = outbox._store.execute("PRAGMA page_count").fetchone()[0]
    outbox._store.execute(f"PRAGMA max_page_count = {pages + 10}")
    with pytest.raises(NoRoomError, match="full; the job was not submitted"):
        for count in range(1, 10):
            outbox.add(f"key-{count}", "ann", large)
    taken = outbox.open_entries()
    assert [entry.key for entry in taken] == [f"key-{count}" for count in range(len(taken))]
    outbox.mark_accepted(number, 12, {})
    outbox._store.execute("PRAGMA max_page_count = 1000000")
    assert outbox.add("key-late", "ann", large).state == "waiting"
    outbox.close()
    again = Outbox(folder)
    assert [entry.key for entry in again.open_entries()] == [*(entry.key for entry in taken), "key-late"]
    again.close()
