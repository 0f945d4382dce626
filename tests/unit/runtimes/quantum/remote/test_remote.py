"""Quantum runtimes on other hosts: what they do counts once, whatever becomes of the connection."""

from __future__ import annotations

import itertools
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec

from qslurm.protocol.messages import Admitted, Finish
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from tests.unit.c2.dispatcher.running import BELL, circuit_job, hybrid_job
from tests.unit.runtimes.quantum.remote.conftest import Site
from tests.unit.waiting import until

UID = os.getuid()
NUMBERS = itertools.count(1)


def begin(place: Site) -> int:
    """A circuit job is executing somewhere; its number."""
    before, job_id = place.begun(), next(NUMBERS)
    assert place.dispatcher.ask(circuit_job(job_id, uid=UID, shots=10)) == Admitted()
    until(lambda: place.begun() == before + 1)
    return job_id


def the_execution(place: Site, job_id: int) -> tuple[int, int, float]:
    """Shots and seconds of the only execution of a job that has ended well."""
    record = place.ended(job_id)
    assert (record.state, record.reason) == ("finished", "")  # type: ignore[attr-defined]
    (execution,) = place.dispatcher.reader().executions(record)  # type: ignore[arg-type]
    return execution.shots_done, sum(msgspec.json.decode(execution.counts).values()), execution.seconds


def test_what_was_executed_while_the_link_was_cut_counts_once_and_is_not_executed_again(place: Site) -> None:
    job = begin(place)
    place.cable.cut()
    until(lambda: place.dispatcher.status().backends[0].state == "offline")
    reason = place.dispatcher.status().backends[0].reason
    assert reason == "its quantum runtime lab is not responding"
    place.let_go()
    place.cable.mend()
    assert the_execution(place, job) == (10, 10, 0.5)
    assert place.begun() == 1
    until(lambda: place.joined(1))


def test_a_killed_dispatcher_s_successor_takes_up_what_is_executing_and_what_is_done(place: Site) -> None:
    job = begin(place)
    place.dispatcher.kill()
    place.restart()
    until(lambda: place.joined(1) and place.dispatcher.executing())
    place.dispatcher.kill()
    place.let_go()
    place.restart()
    assert the_execution(place, job) == (10, 10, 0.5)
    assert place.begun() == 1


def test_a_hybrid_job_gets_what_a_killed_dispatcher_had_asked_for(place: Site) -> None:
    source = "def execute(qi): pass\ndef finalize(results): return {}"
    job = next(NUMBERS)
    place.dispatcher.ask(hybrid_job(job, source, uid=UID))
    with place.dispatcher.client(30.0) as client:
        step = DispatcherSession(client, job, 0, say=lambda _: None)
        with closing(step):
            place_killed = _kill_when_begun(place)
            outcome = step.execute(BELL, 10, raw_data=True)
            place_killed.join()
    assert (outcome.shots_done, len(outcome.raw_data)) == (10, 10)
    assert place.begun() == 1


def test_nothing_is_begun_before_the_store_has_it_so_that_a_killed_dispatcher_s_successor_knows(
    place: Site,
) -> None:
    job = next(NUMBERS)
    place.dispatcher.ask(hybrid_job(job, "def execute(qi): pass\ndef finalize(results): return {}", uid=UID))
    with place.dispatcher.client(30.0) as client, ThreadPoolExecutor(1) as other:
        step = DispatcherSession(client, job, 0, say=lambda _: None)
        with closing(step):
            with place.store_takes_nothing():
                outcome = other.submit(step.execute, BELL, 10, raw_data=True)
                until(place.in_trouble)
                assert place.begun() == 0
                place.dispatcher.kill()
            place.restart()
            until(lambda: place.begun() == 1)
            place.let_go()
            assert outcome.result(30).shots_done == 10
    assert place.begun() == 1


def test_what_could_not_be_stored_at_once_is_begun_when_it_is(place: Site) -> None:
    job = next(NUMBERS)
    place.dispatcher.ask(hybrid_job(job, "def execute(qi): pass\ndef finalize(results): return {}", uid=UID))
    with place.dispatcher.client(30.0) as client, ThreadPoolExecutor(1) as other:
        step = DispatcherSession(client, job, 0, say=lambda _: None)
        with closing(step):
            with place.store_takes_nothing():
                outcome = other.submit(step.execute, BELL, 10, raw_data=True)
                until(place.in_trouble)
            until(lambda: place.begun() == 1)
            place.let_go()
            assert outcome.result(30).shots_done == 10


def test_an_answer_is_kept_on_its_host_until_it_is_stored_also_when_the_link_breaks_meanwhile(
    place: Site,
) -> None:
    job = begin(place)
    with place.store_takes_nothing():
        place.let_go()
        until(place.in_trouble)
        place.cable.cut()
        joined = place.joined_times()
        place.cable.mend()
        until(lambda: place.joined_times() > joined)
        place.dispatcher.kill()
    place.restart()
    assert the_execution(place, job) == (10, 10, 0.5)
    assert place.begun() == 1


def _kill_when_begun(place: Site):  # type: ignore[no-untyped-def]
    import threading

    def kill() -> None:
        until(lambda: place.begun() == 1)
        place.dispatcher.kill()
        place.restart()
        until(lambda: place.joined(1))
        place.let_go()

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_a_runtime_that_dies_is_replaced_and_its_circuit_executed_once_more_at_most(place: Site) -> None:
    job = begin(place)
    for times in (1, 2):
        place.agents[-1].kill()
        place.join()
        if times == 1:
            until(lambda: place.begun() == 2)
    record = place.ended(job)
    assert (record.state, record.reason) == (
        "failed",
        "The quantum runtime was restarted twice.",
    )


def test_a_worker_that_dies_is_replaced_where_it_was_and_its_circuit_executed_again(place: Site) -> None:
    job = begin(place)
    text = Path(f"/proc/{place.agents[-1].pid}/task/{place.agents[-1].pid}/children").read_text()
    (worker,) = text.split()
    os.kill(int(worker), signal.SIGKILL)
    until(lambda: place.begun() == 2)
    place.let_go()
    assert the_execution(place, job) == (10, 10, 0.5)


def test_a_runtime_that_is_stopped_leaves_at_once(place: Site) -> None:
    place.agents[-1].terminate()
    assert place.agents[-1].wait(30) == 0
    until(lambda: place.dispatcher.status().backends[0].runtimes == 0)


def test_a_cancelled_job_s_circuit_is_ended_and_the_next_one_executed(place: Site) -> None:
    job = begin(place)
    place.dispatcher.ask(Finish(job_id=job, restart=0, state="CANCELLED"))
    another = begin(place)
    place.let_go()
    assert the_execution(place, another) == (10, 10, 0.5)


def test_who_is_away_for_too_long_finds_its_work_given_to_another_and_counts_no_more(
    home: Path, python: Path
) -> None:
    with Site(home, python, beat_s=0.1, grace_s=1.5, places=2) as bare:
        for name in ("slow", "fast"):
            bare.key(name)
        slow = bare.join("slow")
        until(lambda: bare.joined(1))
        job = begin(bare)
        os.kill(slow.pid, signal.SIGSTOP)
        bare.join("fast")
        until(lambda: bare.begun() == 2)
        bare.let_go()
        assert the_execution(bare, job) == (10, 10, 0.5)
        os.kill(slow.pid, signal.SIGCONT)
        until(lambda: bare.joined(2))
        assert the_execution(bare, job) == (10, 10, 0.5)
        assert bare.dispatcher.reader().tasks("a")[0].shots == 10


def test_a_circuit_that_takes_too_long_is_ended_there(home: Path, python: Path) -> None:
    with Site(home, python, execution_limit_s=0.3) as place:
        place.key("lab")
        place.join()
        until(lambda: place.joined(1))
        job = next(NUMBERS)
        place.dispatcher.ask(circuit_job(job, uid=UID))
        record = place.ended(job)
    assert record.reason == "The circuit exceeded its time limit of 0.3 s."  # type: ignore[attr-defined]


def test_several_circuits_run_at_a_time_where_there_is_room(bare: Site) -> None:
    bare.key("large")
    bare.join("large", workers=3)
    until(lambda: bare.joined(1))
    jobs = [next(NUMBERS) for _ in range(4)]
    for job in jobs:
        bare.dispatcher.ask(circuit_job(job, uid=UID))
    until(lambda: bare.begun() == 3)
    assert bare.dispatcher.status().backends[0].executing == 3
    bare.let_go()
    for job in jobs:
        the_execution(bare, job)


def test_a_large_answer_arrives(place: Site) -> None:
    place.let_go()
    job = next(NUMBERS)
    place.dispatcher.ask(hybrid_job(job, "def execute(qi): pass\ndef finalize(results): return {}", uid=UID))
    with (
        place.dispatcher.client(30.0) as client,
        closing(DispatcherSession(client, job, 0, say=lambda _: None)) as step,
    ):
        outcome = step.execute(BELL, 1_000_000, raw_data=True)
    assert len(outcome.raw_data) == 1_000_000
