"""What job states and reasons mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.errors import QslurmError
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.rest.job_records import from_slurmctld, from_slurmdbd
from qslurm.slurm.states import (
    CODES,
    OF_WAITING,
    REASONS,
    STATES,
    explain,
    is_final,
    is_reason,
    outcome,
    pick,
    raised_signal,
    word,
)


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ("COMPLETED", "completed"),
        ("FAILED", "failed"),
        ("NODE_FAIL", "failed"),
        ("CANCELLED", "cancelled"),
        ("TIMEOUT", "timed_out"),
        ("DEADLINE", "timed_out"),
    ],
)
def test_a_final_state_has_an_outcome(state, ended):
    assert is_final(state)
    assert outcome(state) == ended


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED"])
def test_a_job_that_goes_on_has_none(state):
    assert not is_final(state)
    with pytest.raises(QslurmError):
        outcome(state)


def test_a_state_that_nobody_knows_is_shown_and_not_final():
    assert not is_final("TELEPORTED_AWAY")
    assert word("TELEPORTED_AWAY") == "teleported away"
    with pytest.raises(QslurmError, match="TELEPORTED_AWAY"):
        outcome("TELEPORTED_AWAY")


def test_a_list_of_states_is_final_only_when_all_are():
    assert pick(["COMPLETED"]) == "COMPLETED"
    assert pick(["CANCELLED", "COMPLETING"]) == "COMPLETING"
    assert pick([]) == pick(None) == "PENDING"


def test_an_unknown_reason_stays_as_slurm_names_it():
    assert explain("PartitionDown").startswith("the partition is held by the platform")
    assert explain("Quantum_Weather") == "Quantum_Weather"
    assert explain("None") == explain("") == ""


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.dictionaries(
        st.sampled_from(["set", "infinite", "number", "return_code", "signal"]), inner
    ),
    max_leaves=6,
)
FIELDS = [
    "name",
    "state_reason",
    "submit_time",
    "start_time",
    "end_time",
    "exit_code",
    "time_limit",
    "restart_cnt",
    "comment",
]


@given(st.sampled_from(sorted(STATES)), st.dictionaries(st.sampled_from(FIELDS), anything))
def test_a_record_with_strange_fields_is_still_a_job(state, fields):
    job = from_slurmctld({"job_id": 3, "job_state": state, **fields})
    assert (job.job_id, job.is_final) == (3, is_final(state))
    assert job.word
    accounted = from_slurmdbd({"job_id": 3, "state": {"current": state}, "time": {}, **fields})
    assert accounted.state == state


@pytest.mark.parametrize("status", [768, {"set": True, "infinite": False, "number": 768}])
def test_an_exit_code_is_read_from_waits_status_word(status):
    job = from_slurmctld({"job_id": 1, "job_state": "FAILED", "exit_code": status})
    assert (job.exit_code, job.signal) == (3, None)


def test_slurmdbds_exit_code_is_an_object():
    ended = {"status": "SIGNALED", "return_code": 0, "signal": {"signal_id": 9, "name": "Killed"}}
    job = from_slurmdbd({"job_id": 1, "state": {"current": "FAILED"}, "time": {}, "exit_code": ended})
    assert (job.exit_code, job.signal) == (None, 9)


def test_a_job_that_the_platform_has_cancelled_says_why():
    said = "qslurm: The job's data can't be read: it was cut. "
    job = JobInfo(job_id=1, name="bell", state="CANCELLED", reason="None", admin_comment=said)
    assert job.why == "The job's data can't be read: it was cut"
    assert JobInfo(job_id=1, name="bell", state="CANCELLED", admin_comment="for Ann").why == ""
    assert (
        JobInfo(job_id=1, name="bell", state="PENDING", reason="Priority", admin_comment=said).why != job.why
    )


def test_why_a_job_waited_does_not_say_why_it_ended():
    for reason, says in (("PartitionDown", False), ("DependencyNeverSatisfied", True), ("TimeLimit", True)):
        assert bool(JobInfo(job_id=1, name="bell", state="CANCELLED", reason=reason).why) == says
    assert set(REASONS) >= OF_WAITING


def test_each_state_has_squeues_code():
    assert sorted(CODES.values()) == sorted(STATES)


SEGV = "its script was killed by signal 11 (SIGSEGV)"
BY_SIGNAL = {
    # what says so: the words
    "slurmctld's wait status": (
        from_slurmctld, {"job_state": "FAILED", "state_reason": "JobLaunchFailure", "exit_code": 11}, SEGV
    ),
    "and a core": (
        from_slurmctld,
        {"job_state": "FAILED", "state_reason": "JobLaunchFailure", "exit_code": 139},
        f"{SEGV}, and dumped core",
    ),
    "slurmctld from v0.0.40 on": (
        from_slurmctld,
        {
            "job_state": ["FAILED"],
            "state_reason": "RaisedSignal:11(Segmentation_fault)",
            "exit_code": {
                "status": ["CORE_DUMPED"],
                "return_code": {"set": False, "infinite": False, "number": 0},
                "signal": {"id": {"set": True, "infinite": False, "number": 11}, "name": "SEGV"},
            },
        },
        f"{SEGV}, and dumped core",
    ),
    "slurmdbd of 22.05": (
        from_slurmdbd,
        {
            "state": {"current": "FAILED", "reason": "None"},
            "exit_code": {"status": "SIGNALED", "return_code": None,
                          "signal": {"signal_id": 11, "name": "Segmentation fault"}},
        },
        SEGV,
    ),
    "the script's last command": (
        from_slurmctld,
        {"job_state": "FAILED", "state_reason": "NonZeroExitCode", "exit_code": 35584},
        "its script exited with code 139, as of a command killed by signal 11 (SIGSEGV)",
    ),
    "no signal": (
        from_slurmctld,
        {"job_state": "FAILED", "state_reason": "NonZeroExitCode", "exit_code": 768},
        "its script exited with code 3",
    ),
    "a launch that went wrong": (
        from_slurmctld,
        {"job_state": "FAILED", "state_reason": "JobLaunchFailure", "exit_code": 1 << 8},
        "the job could not be launched",
    ),
    "a time limit is no signal": (
        from_slurmctld, {"job_state": "TIMEOUT", "state_reason": "TimeLimit", "exit_code": 15},
        "it reached its time limit",
    ),
    "a signal without a name": (
        from_slurmctld, {"job_state": "FAILED", "state_reason": "JobLaunchFailure", "exit_code": 40},
        "its script was killed by signal 40",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("read", "record", "words"), BY_SIGNAL.values(), ids=BY_SIGNAL)
def test_a_script_that_a_signal_has_ended_says_which(read, record, words):
    job = read({"job_id": 1, "name": "j", **record})
    assert job.why == words


@pytest.mark.parametrize("status", [11, 139, 9])
def test_the_reason_that_hooks_tell_is_read_as_slurms_own(status):
    job = from_slurmctld({"job_id": 1, "name": "j", "job_state": "FAILED", "exit_code": status})
    assert is_reason(raised_signal(status))
    assert explain(raised_signal(status)) == job.why
    assert explain("RaisedSignal:11(Segmentation_fault)") == SEGV
