from __future__ import annotations

import msgspec
import pytest

from qslurm.c2.dispatcher.tasks.admission import (
    Accept,
    AlreadyAdmitted,
    BackendAvailability,
    KnownStart,
    Reject,
    decide,
)
from qslurm.c2.store.task_states import TaskState
from qslurm.payload.envelope import Envelope
from qslurm.protocol.messages import Admit
from qslurm.reason_codes import ReasonCode
from tests.unit.c2.dispatcher.running import circuit_job

QX = BackendAvailability("qx", max_shots=1000, unavailable="")
OFFLINE = BackendAvailability("qx", max_shots=1000, unavailable="Backend qx is offline: calibrating.")
JOB = circuit_job(7, uid=1000, key="k1")


def start(job: Admit = JOB, *, state: TaskState = TaskState.RUNNING, started: bool = True, closed: bool = False,
          reason: str = "", code: ReasonCode = ReasonCode.NONE) -> KnownStart:  # fmt: skip
    return KnownStart(
        *(1, job.job_id, job.restart, job.center, job.key, job.uid, job.kind, state, reason, code),
        started,
        closed,
    )


def job(**changes: object) -> Admit:
    return msgspec.structs.replace(JOB, **changes)


def test_a_job_is_admitted_when_its_backend_is_there() -> None:
    assert decide(JOB, QX, [], []) == Accept()


def test_asked_again_the_answer_is_yes_again_even_if_the_backend_has_gone() -> None:
    assert decide(JOB, OFFLINE, [start()], [start()]) == AlreadyAdmitted()
    assert decide(JOB, QX, [start(state=TaskState.FINISHED)], []) == AlreadyAdmitted()


def test_a_refusal_stays_a_refusal() -> None:
    refused = start(state=TaskState.FAILED, started=False, reason="Too many shots.")
    assert decide(JOB, QX, [refused], [refused]) == Reject("Too many shots.", retry=False)


def test_an_unknown_backend_is_refused_for_good() -> None:
    decision = decide(job(backend="nope"), None, [], [])
    assert isinstance(decision, Reject)
    assert not decision.retry
    assert "nope" in decision.reason


def test_an_offline_backend_and_a_full_store_send_the_job_back_to_the_queue() -> None:
    assert decide(JOB, OFFLINE, [], []) == Reject(OFFLINE.unavailable, retry=True)
    decision = decide(JOB, QX, [], [], "database or disk is full")
    assert isinstance(decision, Reject)
    assert decision.retry


@pytest.mark.parametrize(
    "bad",
    [
        job(envelope=None),
        job(kind="hybrid"),
        job(envelope=Envelope(kind="circuit", source="x", shots=0)),
        job(envelope=Envelope(kind="circuit", source="x", shots=1001)),
    ],
)
def test_a_job_that_can_never_run_is_refused_for_good_even_while_the_backend_is_away(bad: Admit) -> None:
    decision = decide(bad, OFFLINE, [], [])
    assert isinstance(decision, Reject)
    assert not decision.retry


def test_a_requeued_job_takes_the_place_of_its_earlier_start() -> None:
    assert decide(job(restart=1), QX, [start()], [start()]) == Accept(instead_of=(1,))


def test_a_late_question_about_an_earlier_start_disturbs_nothing() -> None:
    later = start(job(restart=2))
    decision = decide(job(restart=1), QX, [later], [later])
    assert isinstance(decision, Reject)
    assert decision.retry


def test_a_finished_submission_is_not_executed_again() -> None:
    finished = start(job(job_id=3), state=TaskState.FINISHED)
    assert decide(JOB, OFFLINE, [], [finished]) == Accept(reuse=1)


def test_a_second_job_of_a_running_submission_waits_for_the_first() -> None:
    decision = decide(JOB, QX, [], [start(job(job_id=3))])
    assert isinstance(decision, Reject)
    assert decision.retry
    assert "job 3" in decision.reason


def test_a_script_that_has_run_as_another_job_is_a_duplicate() -> None:
    script = job(kind="script", envelope=None)
    decision = decide(script, QX, [], [start(job(kind="script", job_id=3), state=TaskState.FINISHED)])
    assert isinstance(decision, Reject)
    assert not decision.retry


def test_a_reused_job_id_is_another_job() -> None:
    old = start(job(key="k0"))
    assert decide(JOB, QX, [old], []) == Accept(instead_of=(1,))
    keyless = job(key="")
    assert decide(keyless, QX, [start(keyless, state=TaskState.FINISHED, closed=True)], []) == Accept()


def test_a_start_that_slurm_took_back_may_come_again() -> None:
    withdrawn = start(state=TaskState.WITHDRAWN, closed=True)
    assert decide(JOB, QX, [withdrawn], [withdrawn]) == Accept()


SCRIPT = job(kind="script", envelope=None)


@pytest.mark.parametrize(
    "known",
    [
        start(SCRIPT),
        start(SCRIPT, state=TaskState.FINISHED, closed=True),
        start(SCRIPT, state=TaskState.FAILED, closed=True),
    ],
)
def test_a_script_that_has_begun_is_not_started_again_by_a_slurmctld_that_has_forgotten_it(
    known: KnownStart,
) -> None:
    decision = decide(SCRIPT, QX, [known], [known])
    assert isinstance(decision, Reject)
    assert (decision.reason, decision.retry) == ("The same submission has already run as job 7.", False)


def test_a_script_whose_prolog_is_run_again_before_it_began_is_admitted_again() -> None:
    known = start(SCRIPT, state=TaskState.ADMITTED, started=False)
    assert decide(SCRIPT, QX, [known], [known]) == AlreadyAdmitted()


@pytest.mark.parametrize("kind", ["script", "circuit", "hybrid"])
def test_a_submission_that_was_lost_before_it_ran_may_come_again_also_under_its_old_id(kind: str) -> None:
    again = job(kind=kind, envelope=None if kind == "script" else Envelope(kind=kind, source="x"))  # type: ignore[arg-type]
    lost = start(
        again, state=TaskState.FAILED, started=False, closed=True, reason="Slurm no longer knows the job"
    )
    assert decide(again, QX, [lost], [lost]) == Accept()
    assert decide(msgspec.structs.replace(again, job_id=9), QX, [], [lost]) == Accept()


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.CANCELLED, TaskState.TIMED_OUT])
def test_what_has_run_as_another_job_and_ended_badly_is_not_run_again(state: TaskState) -> None:
    ended = start(msgspec.structs.replace(SCRIPT, job_id=3), state=state, closed=True)
    decision = decide(SCRIPT, QX, [], [ended])
    assert isinstance(decision, Reject)
    assert not decision.retry
    taken_back = msgspec.structs.replace(SCRIPT, job_id=3)
    assert decide(SCRIPT, QX, [], [start(taken_back, state=TaskState.WITHDRAWN, closed=True)]) == Accept()


@pytest.mark.parametrize(("code", "decision"), [(ReasonCode.END_UNKNOWN, Reject), (ReasonCode.NONE, Accept)])
def test_a_job_put_back_after_an_end_that_nobody_knows_is_not_run_again(
    code: ReasonCode, decision: type
) -> None:
    before = start(SCRIPT, state=TaskState.FAILED, closed=True, code=code)
    again = msgspec.structs.replace(SCRIPT, restart=1)
    assert isinstance(decide(again, QX, [before], [before]), decision)
