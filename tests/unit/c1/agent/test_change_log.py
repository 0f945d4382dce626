"""Who hears of which change."""

from __future__ import annotations

import msgspec
import pytest

from qslurm.c1.agent.change_log import ENDINGS, ChangeLog, of_job, of_user
from tests.unit.jobs import job_info

OWNERS = {"key-a": "ann", "key-b": "bob"}


def row(job_id, key, array=None):
    comment = f"qslurm key={key} kind=circuit backend=qx"
    return job_info(job_id=job_id, name="x", state="RUNNING", comment=comment, array_job_id=array)


def owners_of(keys):
    return {key: OWNERS[key] for key in keys if key in OWNERS}


@pytest.fixture
def woken():
    return []


@pytest.fixture
def news(woken):
    return ChangeLog(owners_of, lambda *names: woken.extend(names))


def test_each_user_hears_of_their_own_jobs_once(news, woken):
    begin = news.since(0, "ann")
    assert begin.missed
    news.changed([row(1, "key-a"), row(2, "key-b"), row(1, "key-a")])
    assert {of_user("ann"), of_user("bob"), of_job(1), of_job(2)} == set(woken)
    heard = news.since(begin.number, "ann")
    assert (heard.jobs, heard.missed) == ([1], False)
    assert (news.since(heard.number, "ann").jobs, news.since(begin.number, "bob").jobs) == ([], [2])
    news.changed([row(1, "key-a")])
    assert news.since(heard.number, "ann").jobs == [1]


def test_an_arrays_tasks_are_the_array_and_a_job_of_nobody_wakes_nobody(news, woken):
    begin = news.since(0, "ann").number
    news.changed([row(13, "key-a", array=12), row(14, "key-a", array=12), row(9, "key-x"), row(8, "")])
    assert (news.since(begin, "ann").jobs, woken[4:]) == ([12], [of_user("ann")])


def test_the_end_of_a_job_wakes_those_who_wait_for_ends(news, woken):
    news.changed([row(1, "key-a")])
    assert ENDINGS not in woken
    news.changed([msgspec.structs.replace(row(1, "key-a"), state="FAILED")])
    assert ENDINGS in woken


def test_who_has_missed_some_knows_it(woken):
    few = ChangeLog(owners_of, lambda *names: woken.extend(names), max_jobs=2)
    begin = few.since(0, "ann").number
    few.changed([row(job_id, "key-a") for job_id in (1, 2, 3)])
    assert few.since(begin, "ann").missed
    forgetful = ChangeLog(owners_of, lambda *names: woken.extend(names), max_changes=2)
    begin = forgetful.since(0, "bob").number
    forgetful.changed([row(job_id, "key-a") for job_id in (1, 2, 3)])
    assert forgetful.since(begin, "bob").missed
    assert not forgetful.since(begin + 1, "bob").missed
    assert ChangeLog(dict, print).since(begin, "ann").missed  # an agent that was started since
    answer = forgetful.since(begin, "ann")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(answer))["number"] > begin
