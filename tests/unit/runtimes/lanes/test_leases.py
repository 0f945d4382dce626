"""A hybrid job's circuits go by lane; whoever is killed meanwhile, none is lost and none is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.errors import JobCancelledError, JobFailedError
from qslurm.protocol.messages import Finish
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from qslurm.runtimes.lanes.lease import IDLE_S, SLICE_S, is_due
from qslurm.runtimes.lanes.logbook import SUFFIX, Logbook, open_logbook
from tests.unit.c2.dispatcher.running import (
    BELL,
    ROOT,
    Running,
    circuit_job,
    hybrid_job,
    is_gone,
    slow_circuit,
)
from tests.unit.waiting import until

UID = os.getuid()
SOURCE = "def execute(qi): pass\ndef finalize(m): return {}\n"


_ENDLESS = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.wire.credentials import SameUser
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
socket = sys.argv[3]
with DispatcherClient(socket, identity=SameUser()) as client:
    step = DispatcherSession(client, 1, 0, say=print, lanes=True)
    while True:
        step.execute("version 3.0; qubit q; bit b; b = measure q", 10, False)
"""


@contextmanager
def session(running: Running, job_id: int) -> Iterator[DispatcherSession]:
    """A hybrid job's step, admitted and attached."""
    running.ask(hybrid_job(job_id, SOURCE, uid=UID))
    with running.client() as client:
        step = DispatcherSession(client, job_id, 0, say=lambda _: None, lanes=True)
        with closing(step):
            yield step


def couple(step: DispatcherSession) -> None:
    """Execute until the dispatcher has given a lane."""
    until(lambda: step.execute(BELL, 10, False) and step.has_lane)


def share(*steps: DispatcherSession) -> None:
    """Execute until each has a lane."""
    until(lambda: all(step.execute(BELL, 10, False) and step.has_lane for step in steps))


def state(running: Running, job_id: int) -> str:
    task = running.reader().task("a", job_id)
    return "" if task is None else task.state


def seqs(running: Running, job_id: int) -> list[int]:
    """The numbers of the executions that the store has an outcome of."""
    task = running.reader().task("a", job_id)
    assert task is not None
    return [one.seq for one in running.reader().executions(task) if one.state == "done"]


def test_a_job_that_couples_often_gets_a_lane_and_its_results_are_stored(shared: Running) -> None:
    with session(shared, 101) as step:
        couple(step)
        for _ in range(200):
            assert step.execute(BELL, 10, False).shots_done == 10
        assert step.has_lane
        step.conclude(final_result="{}")
        assert seqs(shared, 101) == list(range(step.executions))
    task = shared.reader().task("a", 101)
    assert task is not None
    assert (task.state, task.executions, task.shots) == ("finished", step.executions, 10 * step.executions)


def test_a_wrong_circuit_fails_by_lane_as_it_does_elsewhere_and_the_next_goes_on(shared: Running) -> None:
    with session(shared, 102) as step:
        couple(step)
        with pytest.raises(Exception, match="couldn't find instruction 'HH'"):
            step.execute(BELL.replace("H ", "HH "), 10, False)
        assert step.execute(BELL, 10, False).shots_done == 10
        assert step.has_lane


def test_raw_data_and_many_shots_go_by_the_dispatcher_and_the_lane_comes_back(shared: Running) -> None:
    with session(shared, 103) as step:
        couple(step)
        assert len(step.execute(BELL, 10, True).raw_data or []) == 10
        assert step.execute(BELL, 20_000, False).shots_done == 20_000
        couple(step)
        step.conclude(final_result="{}")
        assert seqs(shared, 103) == list(range(step.executions))


def test_two_jobs_on_one_backend_both_get_on(shared: Running) -> None:
    with session(shared, 104) as one, session(shared, 105) as other:
        for _ in range(30):
            assert one.execute(BELL, 10, False).shots_done == 10
            assert other.execute(BELL, 10, False).shots_done == 10
        for step in (one, other):
            step.conclude(final_result="{}")
        assert seqs(shared, 104) == seqs(shared, 105) == list(range(30))


def test_a_dispatcher_killed_in_the_middle_has_lost_nothing_and_does_nothing_twice(home: Path) -> None:
    with Running(home) as running, session(running.ready(), 1) as step:
        couple(step)
        for _ in range(50):
            step.execute(BELL, 10, False)
        told = step.executions
        running.kill()
        running.start()
        running.ready()
        assert seqs(running, 1) == list(range(told)), "what the client was told is there"
        couple(step)
        step.conclude(final_result="{}")
        assert seqs(running, 1) == list(range(step.executions))


def test_a_runtime_killed_in_the_middle_is_replaced_without_the_job_noticing(home: Path) -> None:
    with Running(home) as running, session(running.ready(), 1) as step:
        couple(step)
        (worker,) = running.workers()
        os.kill(worker, signal.SIGKILL)
        for _ in range(20):
            assert step.execute(BELL, 10, False).shots_done == 10
        step.conclude(final_result="{}")
        assert seqs(running, 1) == list(range(step.executions))
        assert is_gone(worker)


def test_a_circuit_by_lane_that_takes_too_long_fails_with_the_reason(home: Path) -> None:
    def executed() -> bool:  # on a busy machine even a small circuit may take too long for a short limit
        try:
            return step.execute(BELL, 10, False).shots_done == 10
        except JobFailedError:
            return False

    with Running(home, execution_limit_s=0.5) as running, session(running.ready(), 1) as step:
        until(lambda: executed() and step.has_lane)
        with pytest.raises(JobFailedError, match=r"time limit of 0\.5 s"):
            step.execute(slow_circuit(24), 1, False)
        until(executed)


def test_cancelling_ends_what_executes_by_lane(home: Path) -> None:
    with Running(home) as running, session(running.ready(), 1) as step:
        couple(step)
        (worker,) = running.workers()
        number = step.executions

        def cancel() -> None:
            until(lambda: under_way(home, number))
            running.ask(Finish(job_id=1, restart=0, state="CANCELLED"))

        canceller = threading.Thread(target=cancel)
        canceller.start()
        with pytest.raises(JobCancelledError):
            step.execute(slow_circuit(24), 1, False)
        canceller.join()
        until(lambda: is_gone(worker))
        assert number not in seqs(running, 1)


def under_way(home: Path, seq: int) -> bool:
    """Whether the one runtime has begun with this execution: it writes that down before it does."""
    (path,) = home.glob(f"*{SUFFIX}")
    descriptor = open_logbook(path)
    logbook = Logbook(descriptor)
    try:
        busy = logbook.busy()
        return busy is not None and busy.seq == seq
    finally:
        logbook.close()
        os.close(descriptor)


def test_jobs_that_couple_at_the_same_time_share_a_runtime_by_lane(shared: Running) -> None:
    with session(shared, 110) as one, session(shared, 111) as other, session(shared, 112) as third:
        steps = (one, other, third)
        share(*steps)
        before = [step.executions for step in steps]
        for _ in range(50):
            for step in steps:
                assert step.execute(BELL, 10, False).shots_done == 10
        assert all(step.has_lane for step in steps)
        assert [step.executions - first for step, first in zip(steps, before, strict=True)] == [50] * 3
        for step in steps:
            step.conclude(final_result="{}")
        for number, step in enumerate(steps):
            assert seqs(shared, 110 + number) == list(range(step.executions))


def test_who_can_have_no_lane_is_served_beside_those_who_have_one(shared: Running) -> None:
    with session(shared, 120) as one, session(shared, 121) as other:
        share(one, other)
        shared.ask(circuit_job(122, uid=UID))
        until(
            lambda: (
                one.execute(BELL, 10, False)
                and other.execute(BELL, 10, False)
                and state(shared, 122) == "finished"
            )
        )
        share(one, other)
        for job_id, step in ((120, one), (121, other)):
            step.conclude(final_result="{}")
            assert seqs(shared, job_id) == list(range(step.executions))


def test_one_that_leaves_or_goes_by_the_dispatcher_takes_no_lane_from_the_others(shared: Running) -> None:
    with session(shared, 130) as one, session(shared, 132) as third:
        with session(shared, 131) as other:
            share(one, other, third)
            assert len(other.execute(BELL, 10, True).raw_data or []) == 10
            share(one, other, third)
        for _ in range(50):
            one.execute(BELL, 10, False)
            third.execute(BELL, 10, False)
        share(one, third)
        assert seqs(shared, 131) == list(range(other.executions))


def test_a_runtime_killed_while_several_share_it_has_lost_nothing_and_does_nothing_twice(home: Path) -> None:
    with Running(home) as running, session(running.ready(), 1) as one, session(running, 2) as other:
        share(one, other)
        (worker,) = running.workers()
        os.kill(worker, signal.SIGKILL)
        for _ in range(20):
            assert one.execute(BELL, 10, False).shots_done == 10
            assert other.execute(BELL, 10, False).shots_done == 10
        share(one, other)
        for job_id, step in ((1, one), (2, other)):
            step.conclude(final_result="{}")
            assert seqs(running, job_id) == list(range(step.executions))


def test_a_dispatcher_killed_while_several_share_a_runtime_has_lost_nothing(home: Path) -> None:
    with Running(home) as running, session(running.ready(), 1) as one, session(running, 2) as other:
        share(one, other)
        for _ in range(50):
            one.execute(BELL, 10, False)
            other.execute(BELL, 10, False)
        told = one.executions, other.executions
        running.kill()
        running.start()
        running.ready()
        assert (seqs(running, 1), seqs(running, 2)) == tuple(list(range(count)) for count in told)
        share(one, other)


def test_a_job_killed_while_it_shares_a_runtime_leaves_nothing_doubled_and_nobody_waiting(home: Path) -> None:
    with Running(home) as running, session(running.ready(), 2) as other:
        running.ask(hybrid_job(1, SOURCE, uid=UID))
        with subprocess.Popen(
            [sys.executable, "-c", _ENDLESS, str(ROOT), str(home), running.config.socket]
        ) as job:
            until(
                lambda: other.execute(BELL, 10, False) and other.has_lane and len(seqs(running, 1)) > 20, 60
            )
            job.kill()
        share(other)
        for _ in range(50):
            assert other.execute(BELL, 10, False).shots_done == 10
        running.ask(Finish(job_id=1, restart=0, state="FAILED"))
        other.conclude(final_result="{}")
        assert seqs(running, 2) == list(range(other.executions))
        assert (done := seqs(running, 1)) == list(range(len(done)))


def test_a_cancelled_job_costs_those_who_share_with_it_nothing_but_a_moment(home: Path) -> None:
    with Running(home) as running, session(running.ready(), 1) as one, session(running, 2) as other:
        share(one, other)
        number = one.executions
        results: list[object] = []

        def slow() -> None:
            try:
                one.execute(slow_circuit(24), 1, False)
            except JobCancelledError as error:
                results.append(error)

        slow_one = threading.Thread(target=slow)
        slow_one.start()
        until(lambda: under_way(home, number))
        neighbour = threading.Thread(target=lambda: results.append(other.execute(BELL, 10, False).shots_done))
        neighbour.start()  # it has its request on a lane whose runtime dies
        running.ask(Finish(job_id=1, restart=0, state="CANCELLED"))
        for thread in (slow_one, neighbour):
            thread.join()
        assert 10 in results
        assert any(isinstance(result, JobCancelledError) for result in results)
        assert number not in seqs(running, 1)
        other.conclude(final_result="{}")
        assert seqs(running, 2) == list(range(other.executions))


def test_a_step_that_takes_no_lanes_gets_none(shared: Running) -> None:
    shared.ask(hybrid_job(106, SOURCE, uid=UID))
    with shared.client() as client, closing(DispatcherSession(client, 106, 0, say=lambda _: None)) as step:
        for _ in range(10):
            assert step.execute(BELL, 10, False).shots_done == 10
        assert client.take_descriptors() == []


ALONE = BackendConfig(name="qx")
SESSIONS = BackendConfig(name="qx", session_idle_s=1.0, session_max_s=10.0)


@pytest.mark.parametrize(
    ("age_s", "idle_s", "backend", "others_wait", "due"),
    [
        (3600, 3600, ALONE, False, False),
        (SLICE_S / 2, IDLE_S / 2, ALONE, True, False),
        (SLICE_S, 0, ALONE, True, True),
        (0, IDLE_S, ALONE, True, True),
        (9, 0.5, SESSIONS, True, False),
        (9, 1.0, SESSIONS, True, True),
        (10, 0.5, SESSIONS, True, True),
    ],
)
def test_a_lease_lasts_until_others_wait_and_it_has_had_its_time(
    age_s: float, idle_s: float, backend: BackendConfig, others_wait: bool, due: bool
) -> None:
    assert is_due(age_s, idle_s, backend=backend, others_wait=others_wait) is due
