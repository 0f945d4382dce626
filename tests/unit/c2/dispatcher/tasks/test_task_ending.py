"""How a job has ended does not depend on who is heard first of those who tell of its end, nor on how late."""

from __future__ import annotations

from itertools import permutations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.c2.dispatcher.tasks import hook_requests, step_sessions
from qslurm.c2.dispatcher.tasks.task_ending import KILLED_S, SlurmEnd, TaskEnd, end_of
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store.store import Store
from qslurm.c2.store.task_states import TaskState
from qslurm.protocol.messages import Admit, Begin, End, Finish, Message
from qslurm.reason_codes import ReasonCode

UID, BEGAN, OVER = 1000, 1e9, 1e9 + 600.0
STATES = ("COMPLETED", "CANCELLED", "TIMEOUT", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED")


class Dispatcher:
    """One with jobs whose scripts have begun, which hears each word at another time, and may be killed between two."""

    def __init__(self, *job_ids: int) -> None:
        self.store, self.now = Store(), BEGAN
        self.restart()
        for job_id in job_ids:
            job = Admit(job_id=job_id, restart=0, user="center_a", uid=UID, account="a", center="a", backend="qx",
                        kind="script", key=f"k{job_id}")  # fmt: skip
            self.stored(hook_requests.admit(self.registry, job, ""))
            self.stored(
                step_sessions.begin(self.registry, Begin(job_id=job_id, restart=0, launch="first"), UID)
            )

    def restart(self) -> None:
        self.registry = TaskRegistry([BackendConfig(name="qx")], self.store)
        self.registry.clock = lambda: self.now

    def stored(self, answer: Message | None) -> None:
        assert answer is not None
        assert self.store.commit(self.registry.changes) == ""
        self.registry.stored()

    def hears(self, word: Message, at: float) -> None:
        self.now = at
        if isinstance(word, End):
            self.stored(step_sessions.script_ended(self.registry, word, UID))
        else:
            assert isinstance(word, Finish)
            self.stored(hook_requests.finish(self.registry, word))

    def end(self, job_id: int = 7) -> TaskEnd:
        (row,) = self.store.tasks_of_key("a", f"k{job_id}")
        return TaskEnd(TaskState(row["state"]), row["reason"], ReasonCode(row["reason_code"]))

    def close(self) -> None:
        self.store.close()


@settings(max_examples=30)
@given(
    state=st.sampled_from(STATES),
    before_s=st.sampled_from([100.0, KILLED_S + 1, KILLED_S - 1, 0.0, -3.0]),
    reason=st.sampled_from(["", "NonZeroExitCode"]),
    delays=st.lists(st.sampled_from([0.1, 4.0, 6.0, 40.0]), min_size=4, max_size=4),
    restarts=st.booleans(),
)
def test_the_words_for_an_end_mean_the_same_in_every_order(
    state: str,
    before_s: float,
    reason: str,
    delays: list[float],
    restarts: bool,
) -> None:
    script = End(job_id=7, restart=0, ended_at=OVER - before_s)
    slurm = Finish(job_id=7, restart=0, state=state, reason=reason, ended_at=OVER)
    meant = end_of("script", SlurmEnd(state, OVER, reason), script.ended_at)
    orders = dict(enumerate(sorted(set(permutations([0, 0, 1, 1])))))
    dispatcher = Dispatcher(*orders)
    for job_id, order in orders.items():
        now = OVER + 3
        for which, delay in zip(order, delays, strict=True):
            now += delay
            dispatcher.hears(msgspec.structs.replace((script, slurm)[which], job_id=job_id), now)
            if restarts:
                dispatcher.restart()
    assert {dispatcher.end(job_id) for job_id in orders} == {meant}
    dispatcher.close()


@pytest.mark.parametrize("delay", [0.5, KILLED_S + 1, 60.0])
def test_a_cancelled_job_is_cancelled_however_late_slurm_says_so(delay: float) -> None:
    """Its script is killed, and its node says so at once; the epilog of a busy host comes seconds later."""
    dispatcher = Dispatcher(7)
    dispatcher.hears(End(job_id=7, restart=0, ended_at=OVER + 0.2), OVER + 0.3)
    dispatcher.hears(Finish(job_id=7, restart=0, state="CANCELLED", ended_at=OVER), OVER + delay)
    assert dispatcher.end() == TaskEnd(TaskState.CANCELLED)
    dispatcher.close()


@pytest.mark.parametrize("delay", [0.5, 60.0])
def test_a_job_that_is_put_back_is_withdrawn_however_late_slurm_says_so(delay: float) -> None:
    dispatcher = Dispatcher(7)
    dispatcher.hears(End(job_id=7, restart=0, ended_at=OVER + 0.2), OVER + 0.3)
    dispatcher.hears(Finish(job_id=7, restart=0, state="REQUEUED", ended_at=OVER), OVER + delay)
    assert dispatcher.end().state is TaskState.WITHDRAWN
    dispatcher.close()


def test_who_does_not_say_when_is_taken_to_tell_of_now() -> None:
    """An older node, or a gate that finds a job gone."""
    dispatcher = Dispatcher(7)
    dispatcher.hears(End(job_id=7, restart=0), OVER)
    dispatcher.hears(Finish(job_id=7, restart=0, state="CANCELLED"), OVER + KILLED_S + 1)
    assert dispatcher.end().reason_code is ReasonCode.END_UNKNOWN
    dispatcher.close()


@pytest.mark.parametrize(
    ("began", "seconds", "state"),
    [(False, 1.0, TaskState.CANCELLED), (True, 1.0, TaskState.FINISHED), (False, 60.0, TaskState.FINISHED)],
)
def test_a_script_that_slurm_completes_at_once_and_that_never_began_was_cancelled(
    began: bool, seconds: float, state: TaskState
) -> None:
    dispatcher = Dispatcher(*([7] if began else []))
    if not began:
        job = Admit(job_id=7, restart=0, user="center_a", uid=UID, account="a", center="a", backend="qx",
                    kind="script", key="k7")  # fmt: skip
        dispatcher.stored(hook_requests.admit(dispatcher.registry, job, ""))
    (task,) = dispatcher.registry.tasks_of_job(7)
    dispatcher.now = BEGAN + seconds
    hook_requests.finish(
        dispatcher.registry,
        Finish(job_id=7, restart=0, state="COMPLETED", key="k7", ended_at=BEGAN + seconds),
    )
    assert task.state is state
