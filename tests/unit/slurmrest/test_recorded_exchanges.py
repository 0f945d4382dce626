"""What the client makes of every exchange recorded with a real slurmrestd."""

from __future__ import annotations

import json

import pytest
from recordings import RECORDED, body_of, load

from qslurm.errors import (
    DuplicateError,
    PermissionDeniedError,
    QslurmError,
    RefusedError,
    TokenError,
    UncertainError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.slurmrest.adapters import ADAPTERS
from qslurm.slurmrest.verdict import classify

ACCEPTED_39 = {
    "submit_array": 4,
    "submit_bad_account": 14,
    "submit_bad_qos": 15,
    "submit_begin": 19,
    "submit_comment": 18,
    "submit_completes": 33,
    "submit_during_reservation": 847,
    "submit_environment_dict": 9,
    "submit_fails": 32,
    "submit_hold": 5,
    "submit_key": 849,
    "submit_no_cwd": 12,
    "submit_no_shebang": 11,
    "submit_node_down": 845,
    "submit_node_drained": 846,
    "submit_nodes_integer": 17,
    "submit_nul_in_script": 22,
    "submit_ok": 3,
    "submit_paper": 2,
    "submit_partition_down": 26,
    "submit_running": 35,
    "submit_script_inside_job": 10,
    "submit_signal": 31,
    "submit_time_limit_number": 6,
    "submit_time_limit_object": 7,
    "submit_time_limit_too_long": 8,
    "submit_times_out": 34,
    "submit_too_many_nodes": 16,
    "submit_unicode": 21,
    "submit_unknown_field": 13,
    "auth_root_token_as_center": 23,
    "auth_slurmuser_token_as_center": 24,
    "auth_unknown_user": 25,
}

REFUSED_39 = {
    "submit_bad_json": (RefusedError, 0),
    "submit_bad_partition": (RefusedError, 2000),
    "submit_bad_type": (RefusedError, 0),
    "submit_bad_reservation": (RefusedError, 2053),
    "submit_dependency_bad": (RefusedError, 2038),
    "submit_empty_body": (RefusedError, 9000),
    "submit_empty_script": (RefusedError, 9000),
    "submit_environment_empty_list": (RefusedError, 9200),
    "submit_no_environment": (RefusedError, 9200),
    "submit_key_duplicate": (DuplicateError, 2011),
    "submit_no_script": (RefusedError, 2009),
    "submit_not_object": (RefusedError, 9209),
    "submit_partition_drain": (RefusedError, 2070),
    "submit_partition_inactive": (RefusedError, 2070),
    "submit_time_limit_string": (RefusedError, 9209),
    "submit_user_id_other": (RefusedError, 2010),
    "submit_user_id_root": (RefusedError, 2010),
    "auth_alg_none": (TokenError, 0),
    "auth_as_root_with_center_token": (TokenError, 0),
    "auth_expired_submit": (TokenError, 0),
    "auth_other_user": (TokenError, 0),
}
REFUSED_38 = {
    "submit_bad_partition": (RefusedError, 2000),
    "submit_environment_list": (RefusedError, 9001),
    "submit_no_environment": (RefusedError, 2127),
    "submit_partition_drain": (RefusedError, 2070),
    "submit_time_limit_object": (RefusedError, 9202),
    "submit_time_limit_too_long": (RefusedError, 2051),
    "submit_unknown_field": (RefusedError, 9001),
    "submit_controller_dead": (UnreachableError, 1800),
    "submit_controller_frozen": (UncertainError, 5004),
}
PAYLOAD = {"job": {"partition": "p_qx", "environment": ["PATH=/bin"]}, "script": "#!/bin/sh\n"}


@pytest.mark.parametrize(("name", "job_id"), ACCEPTED_39.items())
def test_a_job_id_means_accepted_whatever_else_is_said(name, job_id, client, replay):
    exchange = replay("v0.0.39", name)
    submitted = client().submit(PAYLOAD)
    assert submitted.job_id == job_id
    body = exchange["response"]["body"]
    assert len(submitted.warnings) == len(body["errors"]) + len(body["warnings"])


@pytest.mark.parametrize(
    ("name", "number"),
    [("submit_node_drained", 2068), ("submit_node_down", 2068), ("submit_too_many_nodes", 2015)],
)
def test_http_500_with_a_job_id_is_a_success_with_a_warning(name, number, client, replay):
    assert replay("v0.0.39", name)["response"]["status"] == 500
    assert f"(Slurm error {number})" in client().submit(PAYLOAD).warnings[0]


@pytest.mark.parametrize(("name", "wanted"), REFUSED_39.items())
def test_a_refused_submission_says_why(name, wanted, client, replay, network):
    replay("v0.0.39", name)
    _assert_refused(client("v0.0.39"), name, *wanted)
    assert len(network.calls) == 1


@pytest.mark.parametrize(("name", "wanted"), REFUSED_38.items())
def test_a_submission_that_22_05_refuses_says_why(name, wanted, client, replay, network):
    replay("v0.0.38", name)
    _assert_refused(client("v0.0.38"), name, *wanted)
    assert len(network.calls) == 1


def _assert_refused(client, name, kind, number):
    with pytest.raises(QslurmError) as caught:
        client.submit(PAYLOAD)
    assert type(caught.value) is kind, name
    if number:
        assert f"(Slurm error {number})" in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "name", ["submit_ok", "submit_running", "submit_hold", "submit_node_drained", "submit_fails"]
)
def test_22_05_accepts(name, client, replay):
    exchange = replay("v0.0.38", name)
    submitted = client("38").submit(PAYLOAD)
    assert submitted.job_id == exchange["response"]["body"]["job_id"]
    assert len(submitted.warnings) == len(exchange["response"]["body"]["errors"])


@pytest.mark.parametrize(
    "name", ["auth_expired", "auth_garbage", "auth_other_key", "auth_none", "auth_no_token"]
)
def test_a_refused_token_is_a_token_error_however_it_is_said(name, client, replay):
    replay("v0.0.39", name)
    with pytest.raises(TokenError, match="refused the token"):
        client().ping()


@pytest.mark.parametrize("name", ["auth_bearer", "auth_only_token", "ping"])
def test_an_accepted_token_pings(name, client, replay):
    replay("v0.0.39", name)
    client().ping()


JOBS_39 = {
    "job_pending_partition_down": ("PENDING", "PartitionDown", None, None),
    "job_pending_node_down": ("PENDING", None, None, None),
    "job_pending_reservation": ("PENDING", None, None, None),
    "job_running": ("RUNNING", "", None, None),
    "job_completed": ("COMPLETED", "", 0, None),
    "job_failed": ("FAILED", "NonZeroExitCode", 3, None),
    "job_cancelled": ("CANCELLED", None, None, 15),
    "job_cancelled_pending": ("CANCELLED", None, None, None),
    "job_timeout": ("TIMEOUT", "TimeLimit", None, 15),
}
JOBS_38 = {
    "job_pending_partition_down": ("PENDING", "PartitionDown", None, None),
    "job_running": ("RUNNING", "", None, None),
    "job_failed": ("FAILED", "NonZeroExitCode", 3, None),
    "job_cancelled": ("CANCELLED", None, None, 15),
}
JOBS = [("v0.0.39", *item) for item in JOBS_39.items()] + [("v0.0.38", *item) for item in JOBS_38.items()]


@pytest.mark.parametrize(("version", "name", "wanted"), JOBS)
def test_a_job_is_read_as_slurmctld_has_it(version, name, wanted, client, replay):
    exchange = replay(version, name)
    job_id = int(exchange["request"]["path"].rsplit("/", 1)[1])
    job = client(version).job(job_id)
    state, reason, exit_code, signal = wanted
    assert (job.job_id, job.state, job.source) == (job_id, state, "slurmctld")
    assert reason is None or job.reason == reason
    assert signal is None or job.signal == signal
    assert exit_code is None or job.exit_code == exit_code
    assert job.user == "center_snellius"
    assert job.is_final == (state not in {"PENDING", "RUNNING"})
    assert (job.submit_time or 0) > 1_700_000_000
    assert (job.start_time is None) == (state == "PENDING")
    assert (job.end_time is not None) == job.is_final
    assert job.time_limit_minutes in {1, 60}


def test_a_waiting_job_says_why_in_words(client, replay):
    replay("v0.0.39", "job_pending_partition_down")
    assert "held by the platform" in client().job(26).why


def test_a_job_that_slurmctld_forgot_comes_from_slurmdbd(client, replay, network):
    forgotten = load("v0.0.39", "job_unknown")["response"]
    network.get(
        "http://c2.example:6820/slurm/v0.0.39/job/34", json=forgotten["body"], status=forgotten["status"]
    )
    replay("v0.0.39", "slurmdb_job_timeout")
    job = client().job(34)
    assert (job.state, job.outcome, job.source) == ("TIMEOUT", "timed_out", "slurmdbd")
    assert (job.end_time, job.time_limit_minutes, job.account) == (1795330693, 1, "snellius")


def test_a_job_that_nobody_knows_is_unknown(client, replay):
    replay("v0.0.39", "job_unknown")
    replay("v0.0.39", "slurmdb_job_unknown")
    with pytest.raises(UnknownJobError, match="knows no job 999999"):
        client().job(999999)


def test_a_job_that_22_05_forgot_comes_from_its_accounting(client, replay, network):
    forgotten = load("v0.0.38", "job_unknown")["response"]
    network.get(
        "http://c2.example:6820/slurm/v0.0.38/job/1", json=forgotten["body"], status=forgotten["status"]
    )
    replay("v0.0.38", "slurmdb_job")
    job = client("v0.0.38").job(1)
    assert (job.state, job.exit_code, job.account, job.time_limit_minutes) == (
        "COMPLETED",
        0,
        "snellius",
        1440,
    )
    assert (job.marks.kind, job.source) == ("circuit", "slurmdbd")


def test_a_job_that_22_05_does_not_know_is_looked_for_in_the_accounting(client, replay):
    replay("v0.0.38", "job_unknown")
    replay("v0.0.38", "slurmdb_job_unknown")
    with pytest.raises(UnknownJobError):
        client("v0.0.38").job(999999)


def test_cancelling_works_while_the_job_waits_or_runs(client, replay):
    for name, job_id in {"cancel_pending": 26, "cancel_running": 35}.items():
        replay("v0.0.39", name)
        assert client().cancel(job_id) == []


def test_cancelling_an_ended_job_is_well_with_a_warning(client, replay):
    replay("v0.0.39", "cancel_finished")
    assert client().cancel(35) == ["Job was already sent signal Killed"]


def test_cancelling_an_unknown_job_says_so(client, replay):
    replay("v0.0.39", "cancel_unknown")
    replay("v0.0.39", "slurmdb_job_unknown")
    with pytest.raises(UnknownJobError):
        client().cancel(999999)


def test_a_task_that_a_job_does_not_have_is_not_called_over(client, replay, network):
    unknown, known = load("v0.0.39", "cancel_unknown")["response"], load("v0.0.39", "slurmdb_job")
    job_id = known["response"]["body"]["jobs"][0]["job_id"]
    known["response"]["body"]["jobs"][0]["state"]["current"] = "PENDING"
    network.delete(
        f"http://c2.example:6820/slurm/v0.0.39/job/{job_id}_3", json=unknown["body"], status=unknown["status"]
    )
    network.get("http://c2.example:6820" + known["request"]["path"], json=known["response"]["body"])
    with pytest.raises(UnknownJobError, match=f"no task 3 of job {job_id}"):
        client().cancel(job_id, 3)


@pytest.mark.parametrize(
    "version", [name for name, adapter in ADAPTERS.items() if not adapter.cancels_in_silence]
)
def test_another_centers_job_can_not_be_cancelled(version, client, replay):
    exchange = replay(version, "job_running_other_user_cancel")
    with pytest.raises(PermissionDeniedError, match="2002"):
        client(version).cancel(int(exchange["request"]["path"].rsplit("/", 1)[1]))


def test_the_list_of_jobs_is_read_whole(client, replay):
    exchange = replay("v0.0.39", "jobs")
    jobs = client().jobs()
    assert [job.job_id for job in jobs] == [entry["job_id"] for entry in exchange["response"]["body"]["jobs"]]


def test_a_submission_is_found_by_the_key_in_its_comment(client, network):
    exchange = load("v0.0.39", "jobs")
    record = exchange["response"]["body"]["jobs"][7]
    record["comment"] = "qslurm key=abc kind=circuit"
    network.get("http://c2.example:6820/slurm/v0.0.39/jobs", json=exchange["response"]["body"])
    assert client().find_by_key("abc").job_id == record["job_id"]


def test_a_key_that_slurmctld_forgot_is_found_in_the_accounting(client, replay, network):
    replay("v0.0.39", "jobs")
    accounted = load("v0.0.39", "slurmdb_jobs")["response"]["body"]
    accounted["jobs"][3]["comment"]["job"] = "qslurm key=abc"
    network.get("http://c2.example:6820/slurmdb/v0.0.39/jobs", json=accounted)
    assert client().find_by_key("abc").job_id == accounted["jobs"][3]["job_id"]
    assert client().find_by_key("xyz") is None


def test_no_recorded_exchange_is_forgotten_here():
    """Whoever records another exchange decides what it means."""
    told = set(ACCEPTED_39) | set(REFUSED_39)
    names = {path.stem for path in (RECORDED / "v0.0.39").glob("submit_*.json")}
    assert names <= told


@pytest.mark.parametrize("version", ADAPTERS)
def test_every_recorded_answer_has_a_meaning(version):
    paths = sorted((RECORDED / version).glob("*.json"))
    assert paths
    for path in paths:
        text = path.read_text()
        exchange = json.loads(text)
        answer = exchange["response"]
        verdict = classify(answer["status"], answer["headers"].get("Content-Type", ""), body_of(exchange))
        assert verdict.kind != "broken", path
        assert "eyJ" not in text, f"a token was recorded in {path}"
