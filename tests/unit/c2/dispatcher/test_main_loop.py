"""A real dispatcher with a real quantum runtime, asked over its socket."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qslurm.c2.config.dispatcher_section import DispatcherConfig
from qslurm.c2.hooks.task_prolog import AWAY_S, has_ended, may_begin
from qslurm.errors import (
    InvalidInputError,
    NotReadyError,
    PermissionDeniedError,
    QslurmError,
    UnreachableError,
)
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.dispatcher_frames import BODY_LIMIT
from qslurm.protocol.messages import (
    Admitted,
    Attach,
    Attached,
    Await,
    Conclude,
    Done,
    Execute,
    Executed,
    Finish,
    GetStatus,
    Join,
    Message,
    NotAdmitted,
    Pending,
    Refused,
    SetBackend,
    Status,
)
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from qslurm.wire.credentials import SameUser
from qslurm.wire.frames import SIGNED_SLACK, frame, signed_frame
from qslurm.wire.unix_socket import connect_unix_socket
from tests.unit.c2.dispatcher.running import (
    BELL,
    Running,
    circuit_job,
    deadly_circuit,
    hybrid_job,
    slow_circuit,
)
from tests.unit.waiting import until

UID = os.getuid()
JOB_IDS = count(1)


@pytest.fixture
def client(shared: Running) -> Iterator[DispatcherClient]:
    with shared.client() as client:
        yield client


@pytest.fixture
def job_id() -> int:
    return next(JOB_IDS)


def attach(client: DispatcherClient, job_id: int, *, name: str = "step") -> Attached:
    answer = client.ask(Attach(job_id=job_id, restart=0, client=name))
    assert isinstance(answer, Attached)
    return answer


def wait(client: DispatcherClient, attached: Attached, message: Message, seq: int) -> Message:
    answer = client.exchange(message, secret=attached.secret)
    while isinstance(answer, Pending):
        answer = client.exchange(Await(task=attached.task, seq=seq), secret=attached.secret)
    return answer


def test_a_circuit_job_is_executed_when_it_is_admitted(
    client: DispatcherClient, shared: Running, job_id: int
) -> None:
    assert client.ask(circuit_job(job_id, uid=UID, shots=256)) == Admitted()
    task = until(lambda: (t := shared.reader().task("a", job_id)) and t.state == "finished" and t)
    (execution,) = shared.reader().executions(task)
    counts = msgspec.json.decode(execution.counts)
    assert sum(counts.values()) == 256
    assert set(counts) <= {"00", "11"}
    assert (task.executions, task.shots, execution.state) == (1, 256, "done")


def test_a_finished_job_still_tells_its_outcome(
    client: DispatcherClient, shared: Running, job_id: int
) -> None:
    client.ask(circuit_job(job_id, uid=UID))
    until(lambda: (t := shared.reader().task("a", job_id)) and t.state == "finished")
    attached = attach(client, job_id)
    assert attached.outcome is not None
    assert attached.outcome.shots_done == 100


def test_a_wrong_circuit_is_refused_for_good_with_line_and_column(
    client: DispatcherClient, job_id: int
) -> None:
    job = circuit_job(job_id, "version 3.0\nqubit q\nFoo q\n", uid=UID)
    answer = client.ask(job)
    assert isinstance(answer, NotAdmitted)
    assert not answer.retry
    assert "job.cq:3:1" in answer.reason
    assert client.ask(job) == answer


def test_a_circuit_made_to_kill_its_reader_is_refused_and_nobody_notices(
    client: DispatcherClient, job_id: int
) -> None:
    answer = client.ask(circuit_job(job_id, deadly_circuit(), uid=UID))
    assert isinstance(answer, NotAdmitted)
    assert not answer.retry


def test_more_qubits_than_the_backend_has_are_refused(client: DispatcherClient, job_id: int) -> None:
    answer = client.ask(circuit_job(job_id, slow_circuit(25), uid=UID))
    assert isinstance(answer, NotAdmitted)
    assert not answer.retry
    assert "25" in answer.reason


def test_an_execution_asked_for_twice_runs_once(
    client: DispatcherClient, shared: Running, job_id: int
) -> None:
    client.ask(hybrid_job(job_id, HYBRID, uid=UID))
    attached = attach(client, job_id)
    question = Execute(task=attached.task, seq=0, circuit=BELL, shots=1000)
    first = wait(client, attached, question, 0)
    assert isinstance(first, Executed)
    assert wait(client, attached, question, 0) == first
    other = client.exchange(Execute(task=attached.task, seq=0, circuit=BELL, shots=7), secret=attached.secret)
    assert isinstance(other, Refused)
    assert (
        client.exchange(Conclude(task=attached.task, final_result='{"e": 1}'), secret=attached.secret)
        == Done()
    )
    task = shared.reader().task("a", job_id)
    assert task is not None
    assert (task.state, shared.final_result(task), task.executions) == ("finished", {"e": 1}, 1)


def test_a_failing_circuit_leaves_the_session_and_the_runtime_in_health(
    client: DispatcherClient, job_id: int
) -> None:
    client.ask(hybrid_job(job_id, HYBRID, uid=UID))
    attached = attach(client, job_id)
    bad = wait(client, attached, Execute(task=attached.task, seq=0, circuit="nonsense", shots=1), 0)
    assert isinstance(bad, Executed)
    assert bad.kind == "invalid_circuit"
    good = wait(client, attached, Execute(task=attached.task, seq=1, circuit=BELL, shots=1), 1)
    assert isinstance(good, Executed)
    assert not good.error


def test_a_second_step_of_a_hybrid_job_is_turned_away(client: DispatcherClient, job_id: int) -> None:
    client.ask(hybrid_job(job_id, HYBRID, uid=UID))
    attach(client, job_id, name="first")
    assert attach(client, job_id, name="first").secret
    with pytest.raises(Exception, match="Another step"):
        attach(client, job_id, name="second")


def test_a_final_result_that_is_no_json_object_is_refused(client: DispatcherClient, job_id: int) -> None:
    client.ask(hybrid_job(job_id, HYBRID, uid=UID))
    attached = attach(client, job_id)
    for text in ("[1]", "NaN", "{", "[" * 100_000):
        answer = client.exchange(Conclude(task=attached.task, final_result=text), secret=attached.secret)
        assert isinstance(answer, Refused)


def test_a_final_result_that_is_nested_too_deeply_is_refused_in_a_sentence(
    client: DispatcherClient, job_id: int
) -> None:
    client.ask(hybrid_job(job_id, HYBRID, uid=UID))
    attached = attach(client, job_id)
    for levels in (101, 1000, 100_000):
        text = '{"x":' * levels + "1" + "}" * levels
        answer = client.exchange(Conclude(task=attached.task, final_result=text), secret=attached.secret)
        assert answer == Refused(
            kind="invalid_input", reason="The final result is nested deeper than 100 levels."
        )
    text = '{"x":' * 100 + "1" + "}" * 100
    assert client.exchange(Conclude(task=attached.task, final_result=text), secret=attached.secret) == Done()


def test_without_its_secret_nobody_speaks_for_a_session(client: DispatcherClient, job_id: int) -> None:
    client.ask(hybrid_job(job_id, HYBRID, uid=UID))
    attached = attach(client, job_id)
    for secret in (b"", b"x" * 32, attached.secret[:-1]):
        answer = client.exchange(Conclude(task=attached.task, failure="mine"), secret=secret)
        assert isinstance(answer, Refused)
        assert answer.kind == "session"


def test_another_users_job_can_not_be_attached_to(client: DispatcherClient, job_id: int) -> None:
    client.ask(hybrid_job(job_id, HYBRID, uid=UID + 1))
    with pytest.raises(PermissionDeniedError):
        attach(client, job_id)


def test_a_job_that_was_not_admitted_is_not_ready(client: DispatcherClient) -> None:
    with pytest.raises(NotReadyError):
        attach(client, 999_999)


def test_nobody_joins_as_a_quantum_runtime_on_the_public_socket(client: DispatcherClient) -> None:
    with pytest.raises(PermissionDeniedError):
        client.ask(Join(runtime=1))


def test_cancelling_ends_what_runs_at_once_and_the_next_job_runs(
    client: DispatcherClient, shared: Running, job_id: int
) -> None:
    client.ask(circuit_job(job_id, slow_circuit(24), uid=UID, shots=1))
    until(shared.executing)
    assert client.ask(Finish(job_id=job_id, restart=0, state="CANCELLED")) == Done()
    task = shared.reader().task("a", job_id)
    assert task is not None
    assert (task.state, task.executions) == ("cancelled", 0)
    until(lambda: shared.status().backends[0].state == "idle")
    other = next(JOB_IDS)
    client.ask(circuit_job(other, uid=UID))
    until(lambda: (t := shared.reader().task("a", other)) and t.state == "finished")


def test_who_waits_for_a_cancelled_execution_is_told(
    client: DispatcherClient, shared: Running, job_id: int
) -> None:
    client.ask(hybrid_job(job_id, HYBRID, uid=UID))
    attached = attach(client, job_id)
    question = Execute(task=attached.task, seq=0, circuit=slow_circuit(24), shots=1, wait=False)
    assert isinstance(client.exchange(question, secret=attached.secret), Pending)
    with shared.client() as hook:
        hook.ask(Finish(job_id=job_id, restart=0, state="TIMEOUT"))
    answer = client.exchange(Await(task=attached.task, seq=0), secret=attached.secret)
    assert isinstance(answer, Refused)
    assert answer.kind in {"timed_out", "session"}
    assert attach(client, job_id).state == "timed_out"


def test_an_operators_word_turns_jobs_away_until_it_is_taken_back(
    client: DispatcherClient, job_id: int
) -> None:
    client.ask(SetBackend(backend="qx", online=False, reason="the fridge is warm"))
    answer = client.ask(circuit_job(job_id, uid=UID))
    assert isinstance(answer, NotAdmitted)
    assert answer.retry
    assert "the fridge is warm" in answer.reason
    client.ask(SetBackend(backend="qx", online=True))
    until(lambda: client.ask(circuit_job(job_id, uid=UID)) == Admitted())


def test_an_unknown_backend_can_not_be_set(client: DispatcherClient) -> None:
    with pytest.raises(InvalidInputError):
        client.ask(SetBackend(backend="nope", online=True))


def test_the_same_submission_as_another_job_gets_the_same_results(
    client: DispatcherClient, shared: Running, job_id: int
) -> None:
    client.ask(circuit_job(job_id, uid=UID, key=f"key{job_id}", shots=500))
    first = until(lambda: (t := shared.reader().task("a", job_id)) and t.state == "finished" and t)
    again = next(JOB_IDS)
    client.ask(circuit_job(again, uid=UID, key=f"key{job_id}", shots=500))
    second = shared.reader().task("a", again)
    assert second is not None
    assert shared.reader().executions(second)[0].counts == shared.reader().executions(first)[0].counts
    assert second.qpu_seconds == 0


def test_who_looks_sees_what_waits_and_a_stranger_how_much(
    client: DispatcherClient, shared: Running, job_id: int
) -> None:
    other = next(JOB_IDS)
    client.ask(circuit_job(job_id, slow_circuit(24), uid=UID, shots=1))
    until(shared.executing)
    client.ask(circuit_job(other, uid=UID, shots=7))
    (waiting,) = shared.status().queue
    assert (waiting.job_id, waiting.shots, waiting.position) == (other, 7, 1)
    assert waiting.reason == "1 of 1 in the queue of qx"
    stranger = client.ask(GetStatus())
    assert isinstance(stranger, Status)
    assert (stranger.scope, stranger.tasks, stranger.queue) == ("none", [], [])
    assert (stranger.open_jobs, stranger.backends[0].queued) == (len(shared.status().tasks), 1)
    for one in (other, job_id):
        client.ask(Finish(job_id=one, restart=0, state="CANCELLED"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=64), st.binary(max_size=64))
def test_rubbish_hurts_nobody(shared: Running, data: bytes, body: bytes) -> None:
    for said in (data, frame(1, body), signed_frame(2, body, data)):
        with connect_unix_socket(shared.config.socket, 30) as link:
            link.sendall(said)
    assert shared.status().ready


def test_a_message_that_is_too_long_ends_its_connection_only(shared: Running) -> None:
    with connect_unix_socket(shared.config.socket, 30) as link:
        link.sendall(frame(1, b"x" * (BODY_LIMIT + SIGNED_SLACK + 1))[:1000])
        assert link.recv(1) == b""
    assert shared.status().ready


def test_nobody_there_is_said_in_time(home: object) -> None:
    with DispatcherClient(f"{home}/none.sock", timeout_s=0.1) as client, pytest.raises(UnreachableError):
        client.ask(Join(runtime=1))


HYBRID = "def execute(qi): pass\ndef finalize(m): return {}\n"


def launch(
    shared: Running, job_id: int, sleep: Callable[[float], None] = time.sleep
) -> tuple[int, list[str]]:
    """What TaskProlog is told about a job's launch: its exit code, and what it prints."""
    said: list[str] = []
    environment = {"SLURM_JOB_ID": str(job_id)}
    code = may_begin(shared.config, environment, say=said.append, identity=shared.identity, sleep=sleep)
    return code, said


def test_task_prolog_lets_a_script_begin_once_and_task_epilog_tells_its_end(
    shared: Running, job_id: int
) -> None:
    script = msgspec.structs.replace(
        circuit_job(job_id, uid=UID, key=f"once-{job_id}"), kind="script", envelope=None
    )
    assert shared.ask(script) == Admitted()
    assert launch(shared, job_id) == (0, [])
    code, said = launch(shared, job_id)
    assert (code, len(said)) == (3, 1)
    assert said[0].startswith("print qslurm: The script of job")
    assert has_ended(shared.config, {"SLURM_JOB_ID": str(job_id)}, identity=shared.identity) == 0
    assert isinstance(shared.ask(script), NotAdmitted)


def test_task_prolog_waits_for_an_admission_that_is_late(shared: Running, job_id: int) -> None:
    script = msgspec.structs.replace(
        circuit_job(job_id, uid=UID, key=f"once-{job_id}"), kind="script", envelope=None
    )
    code, said = launch(shared, job_id, sleep=lambda _: shared.ask(script))
    assert code == 0
    assert said == [f"print qslurm: waiting: Job {job_id} is not admitted."]


def test_nobody_waits_for_ever_for_a_dispatcher_that_is_away(home: Path) -> None:
    """Neither a batch script that is about to begin, nor a step that asks for its work."""
    nobody = DispatcherConfig(
        socket=f"{home}/none.sock", store=f"{home}/store.db", munge_socket="", trusted_users=[]
    )
    said: list[str] = []
    passed = iter([0.0, 10.0, AWAY_S - 1, AWAY_S])
    identity = SameUser()
    code = may_begin(
        nobody,
        {"SLURM_JOB_ID": "7"},
        say=said.append,
        identity=identity,
        sleep=lambda _: None,
        clock=lambda: next(passed),
        timeout_s=0.05,
    )
    assert (code, list(passed)) == (3, [])
    assert "does not answer" in said[-1]
    with DispatcherClient(nobody.socket, identity=identity) as client, pytest.raises(UnreachableError):
        DispatcherSession(client, 7, 0, say=said.append, patience_s=0.01, away_s=0.05)


def test_what_is_no_job_does_not_begin(shared: Running) -> None:
    with pytest.raises(QslurmError, match="TaskProlog"):
        may_begin(shared.config, {}, identity=shared.identity)
