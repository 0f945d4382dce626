"""A script runs once, whatever slurmctld has forgotten: the dispatcher has its key, and its launch."""

from __future__ import annotations

from pathlib import Path

import pytest

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.dispatcher.tasks import hook_requests, step_sessions
from qslurm.c2.dispatcher.tasks.task_ending import KILLED_S
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store.store import Store
from qslurm.c2.store.task_states import TaskState
from qslurm.payload.envelope import Envelope
from qslurm.protocol.messages import (
    Admit,
    Admitted,
    Begin,
    Done,
    End,
    Finish,
    GetEnds,
    Message,
    NotAdmitted,
    Refused,
)

UID = 1000


class Dispatcher:
    """One that stores each change before it says anything, and may be killed between any two questions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.restart()

    def restart(self) -> None:
        self.store = Store(str(self.path))
        self.registry = TaskRegistry([BackendConfig(name="qx")], self.store)

    def stored(self, answer: Message | None) -> Message:
        assert answer is not None
        assert self.store.commit(self.registry.changes) == ""
        self.registry.stored()
        return answer

    def admit(self, job_id: int, key: str = "k1", restart: int = 0) -> Message:
        job = Admit(
            job_id=job_id, restart=restart, user="center_a", uid=UID, account="a", center="a", backend="qx",
            kind="script", key=key,
        )  # fmt: skip
        return self.stored(hook_requests.admit(self.registry, job, ""))

    def begin(self, job_id: int, launch: str, restart: int = 0, uid: int = UID) -> Message:
        message = Begin(job_id=job_id, restart=restart, launch=launch)
        return self.stored(step_sessions.begin(self.registry, message, uid))

    def end(self, job_id: int) -> Message:
        return self.stored(step_sessions.script_ended(self.registry, End(job_id=job_id, restart=0), UID))

    def finish(self, job_id: int, state: str, restart: int = 0) -> None:
        self.stored(hook_requests.finish(self.registry, Finish(job_id=job_id, restart=restart, state=state)))

    def ends(self) -> list[tuple[int, int]]:
        ends = hook_requests.ends(self.registry, GetEnds(job_ids=[7, 8, 9])).ends
        return [(end.job_id, end.restart) for end in ends]

    def states(self) -> list[tuple[int, str]]:
        return [(row["job_id"], row["state"]) for row in reversed(self.store.tasks_of_key("a", "k1"))]


@pytest.fixture
def dispatcher(tmp_path: Path) -> Dispatcher:
    return Dispatcher(tmp_path / "store.db")


def refused(answer: Message) -> bool:
    return isinstance(answer, Refused) and answer.kind == "refused"


def test_one_launch_of_a_script_may_run_and_may_ask_again(dispatcher: Dispatcher) -> None:
    assert dispatcher.admit(7) == Admitted()
    assert dispatcher.begin(7, "first") == Done()
    dispatcher.restart()
    assert dispatcher.begin(7, "first") == Done()
    assert refused(dispatcher.begin(7, "second"))
    dispatcher.finish(7, "COMPLETED")
    assert refused(dispatcher.begin(7, "third"))
    assert dispatcher.states() == [(7, "finished")]


@pytest.mark.parametrize("ended", [True, False])
def test_a_slurmctld_that_starts_it_again_is_told_no_and_the_run_stays_as_it_was(
    dispatcher: Dispatcher, ended: bool
) -> None:
    dispatcher.admit(7)
    dispatcher.begin(7, "first")
    if ended:
        dispatcher.finish(7, "COMPLETED")
    dispatcher.restart()
    answer = dispatcher.admit(7)
    assert isinstance(answer, NotAdmitted)
    assert not answer.retry
    assert dispatcher.states() == [(7, "finished" if ended else "failed")]


def test_a_requeued_script_runs_again_as_slurm_wants_it(dispatcher: Dispatcher) -> None:
    dispatcher.admit(7)
    dispatcher.begin(7, "first")
    dispatcher.finish(7, "REQUEUED")
    assert dispatcher.admit(7, restart=1) == Admitted()
    assert refused(dispatcher.begin(7, "late"))
    assert dispatcher.begin(7, "second", restart=1) == Done()
    dispatcher.finish(7, "COMPLETED", restart=1)
    assert dispatcher.states() == [(7, "withdrawn"), (7, "finished")]


def test_a_lost_job_is_admitted_again_as_long_as_it_has_not_begun(dispatcher: Dispatcher) -> None:
    dispatcher.admit(7)
    answer = dispatcher.admit(9)
    assert isinstance(answer, NotAdmitted)
    assert answer.retry
    dispatcher.finish(7, "NODE_FAIL")  # the gate has noticed that slurmctld does not know job 7
    assert refused(dispatcher.begin(7, "late"))
    assert dispatcher.admit(9) == Admitted()
    assert dispatcher.begin(9, "first") == Done()


def test_a_job_id_that_slurm_gives_again_takes_nothing_back_that_has_run(dispatcher: Dispatcher) -> None:
    dispatcher.admit(7)
    dispatcher.begin(7, "first")
    assert dispatcher.admit(7, key="k2") == Admitted()
    assert dispatcher.states() == [(7, "failed")]
    answer = dispatcher.admit(9)
    assert isinstance(answer, NotAdmitted)
    assert not answer.retry


def test_who_is_not_admitted_or_not_the_jobs_user_does_not_begin(dispatcher: Dispatcher) -> None:
    answer = dispatcher.begin(7, "first")
    assert isinstance(answer, Refused)
    assert answer.kind == "not_ready"
    dispatcher.admit(7)
    answer = dispatcher.begin(7, "first", uid=UID + 1)
    assert isinstance(answer, Refused)
    assert answer.kind == "permission"


def test_a_script_that_ended_before_slurmctld_lost_it_is_not_put_back_into_the_queue(
    dispatcher: Dispatcher,
) -> None:
    dispatcher.admit(7)
    dispatcher.begin(7, "first")
    dispatcher.registry.clock = lambda: 1e10
    assert dispatcher.end(7) == Done()
    dispatcher.restart()
    dispatcher.registry.clock = lambda: 1e10 + KILLED_S + 1
    dispatcher.finish(7, "REQUEUED")  # slurmctld misses it on its node
    assert dispatcher.states() == [(7, "failed")]
    dispatcher.registry.clock = lambda: 1e10 + 200
    for restart in (0, 1):
        answer = dispatcher.admit(7, restart=restart)
        assert isinstance(answer, NotAdmitted)
        assert not answer.retry
    assert dispatcher.states() == [(7, "failed")]


def test_a_script_that_is_killed_to_be_put_back_runs_again(dispatcher: Dispatcher) -> None:
    dispatcher.admit(7)
    dispatcher.begin(7, "first")
    dispatcher.registry.clock = lambda: 1e10
    dispatcher.end(7)
    dispatcher.finish(7, "REQUEUED")
    assert dispatcher.admit(7, restart=1) == Admitted()
    assert dispatcher.begin(7, "second", restart=1) == Done()


def test_how_a_script_ended_is_slurms_word_as_long_as_it_has_one(dispatcher: Dispatcher) -> None:
    dispatcher.admit(7)
    dispatcher.begin(7, "first")
    dispatcher.registry.clock = lambda: 1e10
    dispatcher.end(7)
    dispatcher.registry.clock = lambda: 1e10 + 100
    dispatcher.finish(7, "COMPLETED")
    assert dispatcher.states() == [(7, "finished")]


def test_the_gate_is_told_of_jobs_that_are_over_and_of_no_other(dispatcher: Dispatcher) -> None:
    dispatcher.admit(7)
    dispatcher.begin(7, "first")
    assert dispatcher.ends() == []
    dispatcher.end(7)
    assert dispatcher.ends() == [(7, 0)]
    dispatcher.finish(7, "COMPLETED")
    dispatcher.restart()
    assert dispatcher.ends() == [(7, 0)]
    dispatcher.admit(7, key="k2")  # slurmctld has given its id to another
    assert dispatcher.ends() == []
    dispatcher.finish(7, "REQUEUED")
    assert dispatcher.ends() == []
    dispatcher.admit(8, key="k3")
    dispatcher.finish(8, "NODE_FAIL")  # the gate does not see it; it may be there
    assert dispatcher.ends() == []


def test_a_circuit_that_comes_again_is_not_over_until_slurm_says_so(dispatcher: Dispatcher) -> None:
    def admit() -> Message:
        envelope = Envelope(kind="circuit", source="version 3.0", shots=1)
        job = Admit(
            job_id=7, restart=0, user="center_a", uid=UID, account="a", center="a", backend="qx",
            kind="circuit", key="k1", envelope=envelope,
        )  # fmt: skip
        return dispatcher.stored(hook_requests.admit(dispatcher.registry, job, ""))

    assert admit() == Admitted()
    (task,) = dispatcher.registry.tasks.values()
    dispatcher.registry.start(task)
    dispatcher.registry.end(task, TaskState.FINISHED)
    assert dispatcher.ends() == []
    dispatcher.finish(7, "COMPLETED")
    assert dispatcher.ends() == [(7, 0)]
    assert admit() == Admitted()
    assert dispatcher.ends() == []
