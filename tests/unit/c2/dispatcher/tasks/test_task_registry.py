"""Whatever happens in whatever order: no execution is lost, none is done twice."""

from __future__ import annotations

import itertools
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.dispatcher import reservation_requests
from qslurm.c2.dispatcher.pool import assignment
from qslurm.c2.dispatcher.tasks import hook_requests, step_sessions
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store.store import Row, Store
from qslurm.c2.store.task_states import EXECUTION_MOVES, TASK_MOVES, ExecutionState, TaskState, is_open
from qslurm.protocol.messages import (
    Admit,
    Attach,
    Attached,
    Conclude,
    Execute,
    Executed,
    Finish,
    OrderResult,
    Refused,
    Reserve,
    Run,
)
from tests.unit.c2.dispatcher.running import circuit_job, hybrid_job

JOB_IDS = st.integers(1, 3)
RESTARTS = st.integers(0, 2)
KEYS = st.sampled_from(["", "k1", "k2"])
ENDS = st.sampled_from(["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "REQUEUED"])


QPU_SECONDS = st.sampled_from([None, 2.0])
HOURS = st.integers(-48, 48)


class Day(RuleBasedStateMachine):
    """A dispatcher's day: jobs, steps, quantum runtimes, reservations, a store that fills up, a clock that is put
    forward and back, a kill -9 now and then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.timer = 0.0  # seconds, which only go forward
        self.ahead = 0.0  # of the clock, against the timer
        self.runtimes = itertools.count(1)
        self.job_ids = itertools.count(10)
        self.given: dict[int, tuple[int, Run]] = {}  # order -> runtime, what it was told to run
        self.told: dict[tuple[int, int], Executed] = {}  # what somebody may have been told
        self.finished_keys: set[str] = set()
        self.registry = self.new_ledger()

    def new_ledger(self) -> TaskRegistry:
        backends = [BackendConfig(name="qx", session_idle_s=1.0, session_max_s=5.0, policy="fair")]
        return TaskRegistry(backends, self.store, clock=self.clock, timer=lambda: self.timer)

    def clock(self) -> float:
        self.timer += 0.001
        return 1_000_000.0 + self.timer + self.ahead

    @rule(seconds=st.sampled_from([0.1, 2.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.timer += seconds

    @rule(hours=HOURS)
    def the_clock_is_put(self, hours: int) -> None:
        self.ahead = hours * 3600.0

    @rule(begins=HOURS, hours=st.integers(1, 48), center=st.sampled_from("ab"))
    def an_operator_reserves(self, begins: int, hours: int, center: str) -> None:
        at = 1_000_000.0 + begins * 3600
        reservation_requests.handle(
            self.registry, Reserve(backend="qx", begins=at, ends=at + hours * 3600, center=center)
        )

    @rule(job_id=JOB_IDS, restart=RESTARTS, key=KEYS, hybrid=st.booleans(), qpu_seconds=QPU_SECONDS)
    def admit(self, job_id: int, restart: int, key: str, hybrid: bool, qpu_seconds: float | None) -> None:
        make = hybrid_job if hybrid else circuit_job
        job = make(job_id, "x", uid=7, restart=restart, key=key, qpu_seconds=qpu_seconds)
        hook_requests.admit(self.registry, job, "")

    @rule(data=st.data(), hybrid=st.booleans(), key=KEYS, qpu_seconds=QPU_SECONDS)
    def admit_anew(self, data: st.DataObject, hybrid: bool, key: str, qpu_seconds: float | None) -> None:
        """A job that nobody has seen yet, so that there is always something going on."""
        make = hybrid_job if hybrid else circuit_job
        job = make(next(self.job_ids), "x", uid=7, key=key, qpu_seconds=qpu_seconds)
        hook_requests.admit(self.registry, job, "")

    def a_job(self, data: st.DataObject) -> Admit:
        return data.draw(st.sampled_from([task.job for task in self.registry.tasks.values()]))

    @precondition(lambda self: self.registry.tasks)
    @rule(data=st.data(), state=ENDS)
    def finish(self, data: st.DataObject, state: str) -> None:
        job = self.a_job(data)
        hook_requests.finish(self.registry, Finish(job_id=job.job_id, restart=job.restart, state=state))

    def hybrid_jobs(self) -> list[Admit]:
        return [task.job for task in self.registry.tasks.values() if task.job.kind == "hybrid"]

    def attach(self, job: Admit) -> Attached | None:
        message = Attach(job_id=job.job_id, restart=job.restart, client="step")
        attached = step_sessions.attach(self.registry, message, 7)
        is_open = isinstance(attached, Attached) and attached.kind == "hybrid" and attached.secret
        return attached if is_open else None

    @precondition(lambda self: self.hybrid_jobs())
    @rule(data=st.data(), seq=st.integers(0, 1))
    def execute(self, data: st.DataObject, seq: int) -> None:
        attached = self.attach(data.draw(st.sampled_from(self.hybrid_jobs())))
        if attached is None:
            return
        message = Execute(task=attached.task, seq=seq, circuit=f"circuit {seq}", shots=10)
        answer = step_sessions.execute(self.registry, message)
        if not is_open(self.registry.tasks[attached.task].state):
            assert isinstance(answer, Refused)
        elif (attached.task, seq) in self.told:
            assert answer == self.told[attached.task, seq]
        else:
            assert answer is None or isinstance(answer, Refused)
        self.a_runtime_gets_work()

    @precondition(lambda self: self.hybrid_jobs())
    @rule(data=st.data(), seq=st.integers(0, 3))
    def a_circuit_went_by_lane(self, data: st.DataObject, seq: int) -> None:
        attached = self.attach(data.draw(st.sampled_from(self.hybrid_jobs())))
        task = None if attached is None else self.registry.tasks[attached.task]
        if task is None or not is_open(task.state) or task.executions:
            return  # nobody has a lane then
        digest = Execute(task=task.id, seq=seq, circuit=f"circuit {seq}", shots=10).digest()
        done = Executed(seq=seq, shots_requested=10, shots_done=10, counts={"0": 10}, seconds=0.5)
        is_new = seq not in task.ended
        assert self.registry.record(task.id, digest, done) is is_new
        assert not self.registry.record(task.id, digest, done)

    @precondition(lambda self: self.registry.tasks)
    @rule(data=st.data(), good=st.booleans())
    def conclude(self, data: st.DataObject, good: bool) -> None:
        attached = self.attach(self.a_job(data))
        if attached is not None:
            result, failure = ("{}", "") if good else (None, "no")
            message = Conclude(task=attached.task, final_result=result, failure=failure)
            step_sessions.conclude(self.registry, message)

    @rule()
    def a_runtime_gets_work(self) -> None:
        runtime = next(self.runtimes)
        run = assignment.assign(self.registry, "qx", runtime)
        if run is None:
            return
        assert run.order not in self.given
        self.given[run.order] = (runtime, run)
        _, execution = self.registry.running[run.order]
        assert (execution.task, execution.seq) not in self.told
        task = self.registry.tasks[execution.task]
        assert is_open(task.state)
        if task.job.kind == "circuit":
            assert task.job.key not in self.finished_keys

    @precondition(lambda self: self.given)
    @rule(data=st.data(), good=st.booleans())
    def a_result_comes(self, data: st.DataObject, good: bool) -> None:
        order = data.draw(st.sampled_from(sorted(self.given)))
        runtime, _ = self.given[order]
        result = OrderResult(
            runtime=runtime,
            order=order,
            counts={"0": 10},
            shots_done=10,
            seconds=1.0,
            error="" if good else "bad",
        )
        assignment.take_result(self.registry, result)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), late=st.booleans())
    def a_runtime_is_lost(self, data: st.DataObject, late: bool) -> None:
        order = data.draw(st.sampled_from(sorted(self.given)))
        assignment.lost(self.registry, self.given[order][0], "It ended", fail=late)

    @rule()
    def everything_is_stored(self) -> None:
        assert self.registry.store.commit(self.registry.changes) == ""
        for task, seq, message in self.registry.settled:
            if isinstance(message, Executed):
                assert (task, seq) not in self.told
                self.told[task, seq] = message
                job = self.registry.tasks[task].job
                if job.kind == "circuit" and job.key and not message.error:
                    self.finished_keys.add(job.key)
        self.registry.settled.clear()
        self.registry.runtimes_to_kill.clear()
        self.registry.stored()

    @rule()
    def the_store_takes_nothing_for_a_while(self) -> None:
        self.registry.store_error = "database or disk is full"
        assert assignment.assign(self.registry, "qx", next(self.runtimes)) is None
        self.registry.store_error = ""

    @rule(just_stored=st.booleans())
    def kill_9_and_start_again(self, just_stored: bool) -> None:
        if just_stored:
            self.everything_is_stored()
        self.given.clear()
        self.registry = self.new_ledger()

    @invariant()
    def nothing_is_lost_and_nothing_runs_twice(self) -> None:
        running = [id(execution) for _, execution in self.registry.running.values()]
        assert len(running) == len(set(running))
        known = {id(e) for task in self.registry.tasks.values() for e in task.executions.values()}
        assert set(running) <= known
        for task in self.registry.tasks.values():
            for execution in task.executions.values():
                is_running = execution.state is ExecutionState.RUNNING
                assert is_running == (id(execution) in running)
                assert is_running or execution.state is ExecutionState.QUEUED
            if task.job.kind == "circuit" and is_open(task.state):
                assert 0 in task.executions

    @invariant()
    def nobody_waits_for_a_moment_that_has_passed(self) -> None:
        self.registry.next_event()
        assert self.registry.next_event() > self.timer

    def journal_of_every_task(self) -> None:
        """Every change of state is in the journal, and is one that the tables have."""
        for number in range(1, self.store.last_task() + 1):
            lines = self.store.journal(number)
            states = [TaskState(line["state"]) for line in lines if line["seq"] is None]
            assert states[0] is TaskState.ADMITTED
            assert all(after in TASK_MOVES[before] for before, after in pairwise(states))
            [row] = [row for row in self.rows() if row["id"] == number]
            assert row["state"] == states[-1]
            times = [row[name] for name in ("admitted_at", "started_at", "finished_at") if row[name]]
            assert times == sorted(times)
            for execution in self.store.executions(number):
                self.journal_of_an_execution(execution, lines)

    def rows(self) -> list[Row]:
        return [row for job_id in range(1, next(self.job_ids)) for row in self.store.tasks_of_job(job_id)]

    def journal_of_an_execution(self, row: Row, lines: list[Row]) -> None:
        states = [ExecutionState(line["state"]) for line in lines if line["seq"] == row["seq"]]
        if not states:  # the results of the same submission were taken over
            assert row["state"] == ExecutionState.DONE
            return
        for before, after in pairwise(states):
            if after not in EXECUTION_MOVES[before]:
                # A dispatcher that was killed has forgotten it: it is queued anew, or found in a logbook.
                assert EXECUTION_MOVES[before]
                assert after in {ExecutionState.QUEUED, ExecutionState.DONE}
        assert row["state"] == states[-1]

    def teardown(self) -> None:
        """In the end everything that was asked for has an outcome that can be read."""
        self.registry.store_error = ""
        self.ahead = 1e9  # no window is open then
        self.timer += 1e6
        while self.registry.queues["qx"].waiting_order.all():
            self.timer += 100  # no place is kept free for anybody
            run = assignment.assign(self.registry, "qx", 0)
            assert run is not None
            assignment.take_result(
                self.registry, OrderResult(runtime=0, order=run.order, counts={"0": 1}, shots_done=1)
            )
        for runtime, _ in self.given.values():
            assignment.lost(self.registry, runtime, "It ended", fail=True)
        self.everything_is_stored()
        assert not self.registry.queues["qx"].waiting_order.all()
        self.journal_of_every_task()
        for (task, seq), outcome in self.told.items():
            row = self.store.execution(task, seq)
            assert row is not None
            assert row["state"] == ("failed" if outcome.error else "done")
        self.store.close()


Day.TestCase.settings = settings(max_examples=50, stateful_step_count=40)
TestDay = Day.TestCase


def test_a_job_that_slurm_may_call_completed_is_on_the_disk_and_circuits_are_waited_for_by_nobody() -> None:
    registry = TaskRegistry([BackendConfig(name="qx")], Store())

    def must_last() -> bool:
        found = registry.changes_must_sync
        assert registry.store.commit(registry.changes, sync=found) == ""
        registry.stored()
        return found

    hook_requests.admit(registry, hybrid_job(1, "x", uid=7), "")
    assert must_last()
    attached = step_sessions.attach(registry, Attach(job_id=1, restart=0, client="step"), 7)
    assert isinstance(attached, Attached)
    step_sessions.execute(registry, Execute(task=attached.task, seq=0, circuit="x", shots=1))
    run = assignment.assign(registry, "qx", 1)
    assert run is not None
    assignment.take_result(registry, OrderResult(runtime=1, order=run.order, shots_done=1))
    step_sessions.conclude(registry, Conclude(task=attached.task, final_result="{}"))
    assert not must_last()
    hook_requests.finish(registry, Finish(job_id=1, restart=0, state="COMPLETED"))
    assert must_last()
