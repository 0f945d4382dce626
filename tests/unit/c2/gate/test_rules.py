"""What the gate decides."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.c2.gate.rules import (
    EPILOG_GRACE_S,
    LONGEST_BACKOFF_S,
    RESUMES,
    RESUMES_WITHIN_S,
    SECOND_LAUNCH,
    Ages,
    NodeResumes,
    OverdueTasks,
    backoff_s,
    delivery,
    out_of_service,
    overdue,
    release,
    target,
)
from qslurm.c2.hooks.spool import DesiredState, EndedJob, TurnedAwayJob
from qslurm.protocol.messages import BackendStatus, Finish, Status, TaskStatus
from qslurm.slurm.command_output import DrainedNode
from qslurm.slurm.job_info import JobInfo

NOW = 1_000_000.0
FORGOTTEN_S = 600.0


def wish(state: Literal["enabled", "drained", "closed"]) -> DesiredState:
    return DesiredState(state=state, by="olga", since=NOW, why="fridge")


def status(
    state: str = "idle", *, ready: bool = True, reason: str = "", tasks: list[TaskStatus] | None = None
) -> Status:
    backend = BackendStatus(
        name="qx", state=state, reason=reason, since=NOW, qubits=2, max_shots=10, default_shots=1,
        runtimes=1, queued=0, executing=0,
    )  # fmt: skip
    return Status(
        version="1", pid=1, started=NOW, ready=ready, reason=reason, backends=[backend], tasks=tasks or []
    )


def task(state: str = "running", restart: int = 0) -> TaskStatus:
    return TaskStatus(
        job_id=7,
        restart=restart,
        center="c",
        backend="qx",
        kind="circuit",
        state=state,
        since=NOW,
        executions=0,
    )


def turned(times: int = 1, when: float = NOW) -> TurnedAwayJob:
    return TurnedAwayJob(job_id=7, restart=0, partition="p_qx", when=when, times=times, reason="offline")


@pytest.mark.parametrize(
    ("said", "trouble", "state"),
    [
        ("enabled", "", "UP"),
        ("enabled", "offline", "DOWN"),
        ("drained", "", "DOWN"),
        ("drained", "offline", "DOWN"),
        ("closed", "", "DRAIN"),
        ("closed", "offline", "INACTIVE"),
    ],
)
def test_wish_and_backend_give_the_state(
    said: Literal["enabled", "drained", "closed"], trouble: str, state: str
) -> None:
    assert target(wish(said), trouble).state == state


@pytest.mark.parametrize("trouble", ["", "offline"])
def test_a_partition_nobody_spoke_about_accepts_and_holds(trouble: str) -> None:
    assert target(None, trouble).state == "DOWN"


@given(
    said=st.sampled_from(["enabled", "drained", "closed", None]),
    trouble=st.sampled_from(["", "offline"]),
)
def test_nothing_starts_while_the_backend_is_out_of_service_and_nothing_waits_without_a_reason(
    said: Literal["enabled", "drained", "closed"] | None, trouble: str
) -> None:
    goal = target(None if said is None else wish(said), trouble)
    if trouble:
        assert goal.state in {"DOWN", "INACTIVE"}
    if said != "closed":
        assert goal.state in {"UP", "DOWN"}  # C2 accepts
    assert (goal.reason == "") == (goal.state == "UP")


def test_the_reason_names_who_and_why() -> None:
    assert target(wish("drained"), "").reason == "set to drained by olga: fridge"


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (None, "does not respond"),
        (status(ready=False, reason="store full"), "store full"),
        (status("offline", reason="cooling down"), "cooling down"),
        (status("offline"), "offline"),
        (status("calibrating"), "calibrating"),
        (status(), ""),
        (status("executing"), ""),
    ],
)
def test_out_of_service_says_why(seen: Status | None, words: str) -> None:
    trouble = out_of_service(seen, "qx")
    assert words in trouble
    assert bool(trouble) == bool(words)


def test_a_backend_the_dispatcher_does_not_have_is_out_of_service() -> None:
    assert "tuna5" in out_of_service(status(), "tuna5")


def job(
    state: str = "PENDING", *, eligible: float | None = NOW + 120, restart: int = 1, code: int = 0
) -> JobInfo:
    return JobInfo(
        job_id=7,
        state=state,
        restart_count=restart,
        eligible=int(eligible or 0),
        status=code,
        reason="BeginTime",
    )


def test_a_job_turned_away_once_starts_as_soon_as_its_partition_runs_jobs() -> None:
    assert release(turned(), job(), runs=False, now=NOW + 50, age_s=50) == "wait"
    assert release(turned(), job(), runs=True, now=NOW, age_s=0) == "start"


def test_a_start_time_of_the_owners_own_is_left_alone() -> None:
    assert release(turned(), job(eligible=NOW + 3600), runs=True, now=NOW, age_s=0) == "wait"


@pytest.mark.parametrize("eligible", [None, NOW - 1])
def test_a_held_job_and_one_that_may_start_already_are_left_alone(eligible: float | None) -> None:
    assert release(turned(), job(eligible=eligible), runs=True, now=NOW, age_s=0) == "wait"


@pytest.mark.parametrize("state", ["CONFIGURING", "COMPLETING"])
def test_a_job_between_two_states_is_looked_at_again(state: str) -> None:
    assert release(turned(), job(state), runs=True, now=NOW, age_s=0) == "wait"


@pytest.mark.parametrize("state", ["RUNNING", "CANCELLED", "COMPLETED", "FAILED"])
def test_the_record_of_a_job_that_runs_or_has_ended_is_forgotten(state: str) -> None:
    assert release(turned(), job(state), runs=True, now=NOW, age_s=0) == "remove"
    assert release(turned(), None, runs=False, now=NOW, age_s=0) == "remove"


def test_a_job_turned_away_again_and_again_is_started_less_and_less_often() -> None:
    waits = [backoff_s(times) for times in range(1, 20)]
    assert waits[:4] == [0, 2, 4, 8]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_BACKOFF_S
    assert release(turned(times=3), job(), runs=True, now=NOW + 3, age_s=3) == "wait"
    assert release(turned(times=3), job(), runs=True, now=NOW + 4, age_s=4) == "start"


def test_an_end_whose_state_is_known_is_delivered_as_it_is() -> None:
    record = EndedJob(
        job_id=7, restart=2, when=NOW, state="FAILED", exit_code=3, reason="NonZeroExitCode", key="k"
    )
    assert delivery(record, None, now=NOW, age_s=0) == Finish(
        job_id=7, restart=2, state="FAILED", exit_code=3, reason="NonZeroExitCode", key="k", ended_at=NOW
    )


def test_an_end_whose_state_is_unknown_waits_for_slurm_and_not_for_ever() -> None:
    record = EndedJob(job_id=7, restart=0, when=NOW)
    assert delivery(record, None, now=NOW + 1, age_s=1) is None
    known = delivery(record, job("CANCELLED", restart=0), now=NOW + 1, age_s=1)
    assert known is not None
    assert known.state == "CANCELLED"
    given_up = delivery(record, None, now=NOW + EPILOG_GRACE_S + 1, age_s=EPILOG_GRACE_S + 1)
    assert given_up is not None
    assert given_up.state == "NODE_FAIL"


@pytest.mark.parametrize("state", ["RUNNING", "CONFIGURING", "COMPLETING", "PENDING", "SUSPENDED"])
def test_a_task_whose_job_lives_is_left_open(state: str) -> None:
    assert overdue(task(restart=1), job(state, restart=1), FORGOTTEN_S) is None


def test_a_task_of_an_earlier_start_is_withdrawn() -> None:
    verdict = overdue(task(restart=0), job("RUNNING", restart=1), FORGOTTEN_S)
    assert verdict is not None
    assert verdict[0] == Finish(job_id=7, restart=0, state="REQUEUED")


def test_a_lost_epilog_is_made_good_after_its_time_of_grace() -> None:
    watch, ended = OverdueTasks(FORGOTTEN_S), {7: job("FAILED", restart=0, code=512)}
    assert watch.due([task()], ended, NOW) == []
    assert watch.due([task()], ended, NOW + EPILOG_GRACE_S - 1) == []
    (finish,) = watch.due([task()], ended, NOW + EPILOG_GRACE_S)
    assert (finish.state, finish.exit_code) == ("FAILED", 2)


def test_a_job_that_lives_again_starts_its_time_of_grace_anew() -> None:
    watch, ended = OverdueTasks(FORGOTTEN_S), {7: job("FAILED", restart=0)}
    watch.due([task()], ended, NOW)
    watch.due([task()], {7: job("RUNNING", restart=0)}, NOW + 5)
    assert watch.due([task()], ended, NOW + EPILOG_GRACE_S) == []


def test_a_running_job_that_slurmctld_forgot_gets_long_because_it_may_run_on() -> None:
    watch = OverdueTasks(FORGOTTEN_S)
    assert watch.due([task("running"), task("admitted", restart=1)], {}, NOW) == []
    (closed,) = watch.due([task("running"), task("admitted", restart=1)], {}, NOW + EPILOG_GRACE_S)
    assert closed.restart == 1
    assert len(watch.due([task("running")], {}, NOW + FORGOTTEN_S)) == 1


def test_a_clock_that_jumps_makes_nobody_wait_longer_and_gives_nobody_up_sooner() -> None:
    ages, patient = Ages(), turned(times=3)
    assert ages.of(["job"], 100.0) == {"job": 0}
    for seconds, verdict in ((3, "wait"), (4, "start")):
        age_s = ages.of(["job"], 100.0 + seconds)["job"]
        assert release(patient, job(), runs=True, now=NOW - 7200, age_s=age_s) == verdict
    record = EndedJob(job_id=7, restart=0, when=NOW)
    for jump in (-7200, 7200):
        assert delivery(record, None, now=NOW + jump, age_s=1) is None
        assert delivery(record, None, now=NOW + jump, age_s=EPILOG_GRACE_S + 1) is not None


def test_what_is_not_there_any_more_is_new_when_it_comes_again() -> None:
    ages = Ages()
    assert ages.of(["a", "b"], 1.0) == {"a": 0, "b": 0}
    assert ages.of(["b"], 3.0) == {"b": 2}
    assert ages.of(["a", "b"], 5.0) == {"a": 0, "b": 4}


SLURM_UID = 64030


def drained(name: str = "qi1", *, reason: str = SECOND_LAUNCH, by: int = SLURM_UID) -> DrainedNode:
    return DrainedNode(name=name, reason=reason, by=by)


def test_a_node_that_slurmctld_drained_for_its_own_second_launch_is_put_back() -> None:
    assert NodeResumes(SLURM_UID).due([drained("qi1"), drained("qi2")], NOW) == ["qi1", "qi2"]


@pytest.mark.parametrize(
    "node",
    [
        drained(by=0),
        drained(reason="Duplicate jobid, says olga"),
        drained(reason="Prolog error"),
        drained(reason="Kill task failed"),
        drained(reason=""),
    ],
)
def test_a_node_that_is_drained_for_anything_else_or_by_anybody_else_is_left_alone(node: DrainedNode) -> None:
    assert NodeResumes(SLURM_UID).due([node], NOW) == []


def test_a_node_that_is_drained_again_and_again_is_left_to_an_operator() -> None:
    resumes = NodeResumes(SLURM_UID)
    for look in range(20):
        assert resumes.due([drained()], NOW + look) == (["qi1"] if look < RESUMES else [])
    assert resumes.due([drained("qi2")], NOW + 20) == ["qi2"]
    assert resumes.due([drained()], NOW + RESUMES_WITHIN_S + 1) == ["qi1"]
