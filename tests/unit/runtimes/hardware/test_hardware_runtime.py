"""The plug-in `hardware` against a simulated control computer, over real ZeroMQ."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

from qslurm.errors import CircuitError, InvalidInputError, JobFailedError
from qslurm.runtimes.hardware.hardware_runtime import HardwareRuntime
from qslurm.runtimes.health import TryLaterError
from qslurm.runtimes.interface import Outcome
from tests.unit.c2.dispatcher.running import BELL
from tests.unit.runtimes.hardware.conftest import attend_until
from tests.unit.runtimes.hardware.qpu_simulator import Qpu
from tests.unit.waiting import until

Make = Callable[..., HardwareRuntime]

X = "version 3.0; qubit q; bit b; X q; b = measure q"

HASTY = {"missed_heartbeats": 3}
"""Options of one who takes hardware for gone after a moment's silence."""


def execute(
    runtime: HardwareRuntime, circuit: str = BELL, shots: int = 100, *, raw_data: bool = False
) -> Outcome:
    return runtime.execute(circuit, shots, seed=None, raw_data=raw_data, file="job.cq")


def execute_at_last(runtime: HardwareRuntime, circuit: str = BELL, shots: int = 100) -> Outcome:
    """ExecutePayload with limits so short that an answer may be late on a busy machine."""

    def tried() -> Outcome | None:
        try:
            return execute(runtime, circuit, shots)
        except TryLaterError:
            attend_until(runtime, "idle")
            return None

    outcome = until(tried)
    assert outcome is not None
    return outcome


def test_a_session_is_one_initialize_many_executes_and_one_terminate(
    qpu: Qpu, runtime: HardwareRuntime
) -> None:
    for _ in range(3):
        assert sum(execute(runtime).counts.values()) == 100
    assert qpu.do()["state"] == "EXECUTING"
    runtime.close()
    assert qpu.commands() == ["initialize", "execute", "execute", "execute", "terminate"]
    assert qpu.do()["state"] == "IDLE"


def test_a_session_that_is_not_used_is_given_back(qpu: Qpu, make: Make) -> None:
    runtime = make(release_after_s=0.1)
    execute(runtime)
    until(lambda: runtime.attend() and qpu.do()["state"] == "IDLE")
    execute(runtime)
    assert qpu.commands() == ["initialize", "execute", "terminate", "initialize", "execute"]


def test_a_session_in_constant_use_is_given_back_in_time_so_that_the_hardware_can_calibrate(
    qpu: Qpu, make: Make
) -> None:
    runtime = make(session_limit_s=0.2)

    def used() -> bool:  # without a pause in which somebody would look after it
        execute(runtime)
        return qpu.commands()[-3:] == ["terminate", "initialize", "execute"]

    until(used)
    qpu.do(calibrating=True)
    with pytest.raises(TryLaterError, match="calibrating") as caught:
        until(lambda: execute(runtime) and False)
    assert not caught.value.begun


def test_results_by_qubit_become_results_by_bit(qpu: Qpu, runtime: HardwareRuntime) -> None:
    circuit = "version 3.0; qubit[3] q; bit[2] b; X q[2]; b[0] = measure q[2]"
    outcome = execute(runtime, circuit, 5, raw_data=True)
    assert (outcome.counts, outcome.raw_data, outcome.shots_done) == ({"01": 5}, ["01"] * 5, 5)
    qpu.do(wide=True)
    assert execute(runtime, circuit, 5).counts == {"01": 5}


def test_results_by_bit_are_taken_as_they_are(qpu: Qpu, make: Make) -> None:
    runtime = make(results="bits")
    circuit = "version 3.0; qubit[2] q; bit[2] b; X q[0]; b = measure q"  # as many bits as qubits
    assert execute(runtime, circuit, 5).counts == {"01": 5}
    assert execute(runtime, "version 1.0; qubits 2; X q[1]; measure_all", 5).counts == {"10": 5}


def test_a_server_may_tell_of_the_most_frequent_results_only(qpu: Qpu, runtime: HardwareRuntime) -> None:
    qpu.do(top=1)
    outcome = execute(runtime)
    assert len(outcome.counts) == 1
    assert sum(outcome.counts.values()) < outcome.shots_done == 100


def test_jobs_are_told_what_the_hardware_says_of_itself(runtime: HardwareRuntime) -> None:
    until(lambda: runtime.attend() and runtime.backend_type.messages)
    known = runtime.backend_type
    assert (known.name, known.description, known.nqubits, known.gateset) == (
        "spin",
        "simulated",
        5,
        ["H", "CNOT"],
    )
    assert known.topology == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert known.is_hardware
    assert known.messages == {"get_dynamic": {"content": '{"fidelity": 0.99}'}}


def test_what_the_hardware_can_not_do_is_refused_before_it_is_asked(
    qpu: Qpu, runtime: HardwareRuntime
) -> None:
    again = "version 3.0; qubit[5] q; bit[2] b; b[0] = measure q[0]; X q[0]; b[1] = measure q[0]"
    with pytest.raises(CircuitError, match=r"5 qubits and 1 more .* spin has 5"):
        execute(runtime, again)
    with pytest.raises(CircuitError, match="needs 6 qubits; spin has 5"):
        execute(runtime, "version 3.0; qubit[6] q; bit[6] b; b = measure q")
    assert qpu.commands() == []


def test_raw_data_that_the_hardware_does_not_give_is_refused(runtime: HardwareRuntime) -> None:
    import msgspec

    session = runtime.machine_lock
    assert session.static is not None
    session.static = msgspec.structs.replace(session.static, supports_raw_data=False)
    with pytest.raises(InvalidInputError, match="no raw data"):
        execute(runtime, raw_data=True)


def test_a_circuit_that_the_hardware_refuses_in_a_fresh_session_is_the_circuits_fault(
    qpu: Qpu, runtime: HardwareRuntime
) -> None:
    qpu.do(faults={"execute": ["refuse"] * 3})  # the second time in an old session and in a fresh one
    with pytest.raises(JobFailedError, match=r"rejected the circuit: the fridge is warm\."):
        execute(runtime)
    with pytest.raises(JobFailedError, match="fridge"):
        execute(runtime)
    assert sum(execute(runtime).counts.values()) == 100


def test_a_server_that_was_started_anew_is_initialised_anew(qpu: Qpu, runtime: HardwareRuntime) -> None:
    execute(runtime)
    qpu.kill()
    qpu.start()
    assert sum(execute(runtime).counts.values()) == 100
    assert qpu.commands() == ["execute", "terminate", "initialize", "execute"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("rubbish", "invalid reply"),
        ("wrong session", "another session"),
        ("wrong job", "result of job 2 instead of 1"),
        ("narrow", "not strings of 2 or 5 zeros and ones"),
        ("letters", "not strings of 2 or 5"),
        ("too many", "do not match 100 shots"),
        ("none", "do not match 100 shots"),
    ],
)
def test_an_answer_that_is_wrong_loses_the_execution_and_nothing_else(
    qpu: Qpu, runtime: HardwareRuntime, fault: Any, words: str
) -> None:
    qpu.do(faults={"execute": [fault]})
    with pytest.raises(TryLaterError, match=words) as caught:
        execute(runtime)
    assert caught.value.begun
    attend_until(runtime, "idle")
    assert qpu.do()["session"] == ""  # the lost session was given back
    assert execute(runtime, X, 7).counts == {"1": 7}


@pytest.mark.parametrize("fault", ["drop", "hold"])
def test_an_answer_that_is_missing_or_late_loses_the_execution_and_nothing_else(
    qpu: Qpu, make: Make, fault: str
) -> None:
    runtime = make(execute_timeout_s=0.3)
    until(
        lambda: runtime.attend() and runtime.backend_type.messages
    )  # it has said all it has to say of itself
    execute_at_last(runtime)
    qpu.do(faults={"execute": [fault]})
    with pytest.raises(TryLaterError, match=r"did not reply to execute within 0\.3 s") as caught:
        execute(runtime)
    assert caught.value.begun
    qpu.do(release=True)
    attend_until(runtime, "idle")
    assert qpu.do()["session"] == ""
    assert execute_at_last(runtime, X, 7).counts == {"1": 7}  # and not the answer that came late


@pytest.mark.parametrize("fault", ["drop", "rubbish", "refuse", "wrong session"])
def test_hardware_that_can_not_be_initialised_is_tried_later(qpu: Qpu, make: Make, fault: str) -> None:
    runtime = make(**{"initialize_timeout_s": 0.3} if fault == "drop" else {})
    qpu.do(faults={"initialize": [fault]})
    with pytest.raises(TryLaterError, match="initialise") as caught:
        execute(runtime)
    assert not caught.value.begun
    attend_until(runtime, "idle")
    assert qpu.do()["session"] == ""  # even if it was taken before the answer went wrong
    assert sum(execute_at_last(runtime).counts.values()) == 100


def test_it_is_offline_while_it_can_not_be_reached_and_back_when_it_is(qpu: Qpu, make: Make) -> None:
    qpu.kill()
    runtime = make(wait=False, reply_timeout_s=0.3, **HASTY)
    assert "received from the hardware yet" in attend_until(runtime, "offline").reason
    qpu.start()
    attend_until(runtime, "idle")
    qpu.kill()
    until(lambda: "received from the hardware since" in runtime.attend().reason)
    qpu.start()
    attend_until(runtime, "idle")
    assert sum(execute_at_last(runtime).counts.values()) == 100


def test_calibration_and_being_switched_off_are_said(qpu: Qpu, runtime: HardwareRuntime) -> None:
    qpu.do(calibrating=True)
    assert attend_until(runtime, "calibrating").reason.startswith("since ")
    qpu.do(offline=True)
    assert attend_until(runtime, "offline").reason.startswith("reported by the hardware since ")
    qpu.do(offline=False, calibrating=False)
    attend_until(runtime, "idle")


def test_a_circuit_may_end_a_calibration_where_that_is_wanted(qpu: Qpu, make: Make) -> None:
    runtime = make(interrupt_calibration=True)
    qpu.do(calibrating=True)
    runtime.attend()
    assert runtime.attend().ready
    assert sum(execute(runtime).counts.values()) == 100


def test_hardware_that_goes_offline_in_the_middle_is_not_waited_for(qpu: Qpu, make: Make) -> None:
    runtime = make(**HASTY)
    qpu.do(faults={"execute": ["freeze"]})

    def lost() -> str:
        with pytest.raises(TryLaterError) as caught:
            execute(runtime)
        if not caught.value.begun:  # it was too silent already, as may happen on a busy machine
            attend_until(runtime, "idle")
        return str(caught.value) if caught.value.begun else ""

    assert re.search(r"went offline .*received from the hardware since", until(lost))
    qpu.do(release=True)


def test_rubbish_on_the_status_port_is_no_sign_of_life(qpu: Qpu, make: Make) -> None:
    runtime = make(**HASTY)
    qpu.do(mute=True)
    for text in ("", "{", '{"command": "publish_state", "payload": {"state": "BORED"}}', '["IDLE"]'):
        qpu.do(publish=text)
    assert "received from the hardware since" in attend_until(runtime, "offline").reason


@pytest.mark.parametrize(
    ("fault", "reply_timeout_s", "words"),
    [("drop", 0.3, "did not reply to get_static"), ("rubbish", 30.0, "invalid reply")],
)
def test_a_bad_command_port_is_trouble_even_if_the_status_is_fine(
    qpu: Qpu, make: Make, fault: str, reply_timeout_s: float, words: str
) -> None:
    qpu.do(faults={"get_static": [fault]})
    runtime = make(wait=False, reply_timeout_s=reply_timeout_s)
    until(lambda: words in runtime.attend().reason)
    attend_until(runtime, "idle")


def test_another_version_of_the_protocol_is_not_spoken() -> None:
    from qslurm.runtimes.hardware.hardware_options import HardwareOptions
    from tests.unit.runtimes.hardware.conftest import FACTS

    qpu = Qpu(version=4)
    runtime = HardwareRuntime(FACTS, HardwareOptions(**qpu.options))
    runtime.open()
    try:
        until(lambda: "speaks protocol version 4 instead of 3" in runtime.attend().reason)
    finally:
        runtime.close()
        qpu.kill()


def test_a_dead_clients_lock_is_given_back(qpu: Qpu, make: Make) -> None:
    qpu.do(lock="dead")
    runtime = make(wait=False)
    attend_until(runtime, "idle")
    assert qpu.commands() == ["terminate"]


def test_a_guard_that_is_killed_is_replaced_and_knows_the_session(qpu: Qpu, runtime: HardwareRuntime) -> None:
    execute(runtime)
    guard = runtime.machine_lock.guard
    first = guard.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: runtime.attend() and guard.pid != first)
    guard.close()  # as when the one it guards is killed
    until(lambda: qpu.do()["state"] == "IDLE")


def test_a_living_clients_lock_is_respected_where_hardware_is_shared(qpu: Qpu, make: Make) -> None:
    qpu.do(lock="somebody")
    runtime = make(wait=False, exclusive=False)
    attend_until(runtime, "executing")
    with pytest.raises(TryLaterError, match="somebody is using it"):
        execute(runtime)
    assert qpu.commands() == ["initialize"]
    qpu.do(lock="")
    attend_until(runtime, "idle")
    assert sum(execute(runtime).counts.values()) == 100
