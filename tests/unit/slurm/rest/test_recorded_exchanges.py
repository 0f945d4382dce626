"""What the client makes of every exchange recorded with a real slurmrestd."""

from __future__ import annotations

import json

import pytest
from recordings import RECORDED, body_of, load

from qslurm.errors import PermissionDeniedError, UnknownJobError
from qslurm.slurm.rest.adapters import ADAPTERS
from qslurm.slurm.rest.classify import classify

PAYLOAD = {"job": {"partition": "p_qx", "environment": ["PATH=/bin"]}, "script": "#!/bin/sh\n"}


def _job_id(exchange):
    return int(exchange["request"]["path"].rsplit("/", 1)[1].partition("_")[0])


def _accepted(version):
    for path in sorted((RECORDED / version).glob("submit_*.json")):
        body = load(version, path.stem)["response"]["body"]
        if isinstance(body, dict) and body.get("job_id"):
            yield version, path.stem


@pytest.mark.parametrize(("version", "name"), [*_accepted("v0.0.38"), *_accepted("v0.0.39")])
def test_a_job_id_means_accepted_whatever_else_is_said(version, name, client, replay, network):
    body = replay(version, name)["response"]["body"]
    submitted = client(version).submit(PAYLOAD)
    assert submitted.job_id == body["job_id"]
    assert len(submitted.warnings) == len(body["errors"]) + len(body.get("warnings", []))
    assert len(network.calls) == 1


@pytest.mark.parametrize("name", ["submit_node_drained", "submit_node_down"])
def test_http_500_with_a_job_id_is_a_success_with_a_warning(name, client, replay):
    assert replay("v0.0.39", name)["response"]["status"] == 500
    assert "(Slurm error 2068)" in client().submit(PAYLOAD).warnings[0]


def test_a_job_that_is_taken_while_the_accounting_is_away_is_told_so(client, replay):
    assert replay("v0.0.39", "submit_slurmdbd_dead")["response"]["status"] == 500
    assert client().submit(PAYLOAD).warnings[0] == "C2's accounting (slurmdbd) is down."


@pytest.mark.parametrize("name", ["auth_bearer", "auth_only_token", "ping"])
def test_an_accepted_token_pings(name, client, replay):
    replay("v0.0.39", name)
    client().ping()


JOBS_39 = {
    "job_pending_partition_down": ("PENDING", None, None, None),
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
    assert job.time_limit_minutes in {1, 60, 1440}


def test_a_waiting_job_says_why_in_words(client, replay):
    replay("v0.0.39", "job_pending_partition_down")
    assert "classical nodes are busy" in client().job(30).why


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
    with pytest.raises(UnknownJobError, match="C2 has no job 999999"):
        client().job(999999)


def test_a_job_that_22_05_forgot_comes_from_its_accounting(client, replay, network):
    forgotten = load("v0.0.38", "job_unknown")["response"]
    network.get(
        "http://c2.example:6820/slurm/v0.0.38/job/1", json=forgotten["body"], status=forgotten["status"]
    )
    replay("v0.0.38", "slurmdb_job")
    job = client("v0.0.38").job(1)
    assert (job.state, job.exit_code, job.account, job.time_limit_minutes) == ("TIMEOUT", None, "snellius", 1)
    assert (job.marks.kind, job.source) == ("script", "slurmdbd")


def test_a_job_that_22_05_does_not_know_is_looked_for_in_the_accounting(client, replay):
    replay("v0.0.38", "job_unknown")
    replay("v0.0.38", "slurmdb_job_unknown")
    with pytest.raises(UnknownJobError):
        client("v0.0.38").job(999999)


def test_cancelling_works_while_the_job_waits_or_runs(client, replay):
    for name in ("cancel_pending", "cancel_running"):
        exchange = replay("v0.0.39", name)
        assert client().cancel(_job_id(exchange)) == []


def test_cancelling_an_ended_job_is_well_with_a_warning(client, replay):
    exchange = replay("v0.0.39", "cancel_finished")
    assert client().cancel(_job_id(exchange)) == ["Job was already sent signal Killed"]


def test_cancelling_an_unknown_job_says_so(client, replay):
    replay("v0.0.39", "cancel_unknown")
    replay("v0.0.39", "slurmdb_job_unknown")
    with pytest.raises(UnknownJobError):
        client().cancel(999999)


def test_a_task_that_a_job_does_not_have_is_not_called_over(client, replay, network):
    unknown, known = load("v0.0.38", "cancel_unknown")["response"], load("v0.0.39", "slurmdb_job")
    job_id = known["response"]["body"]["jobs"][0]["job_id"]
    known["response"]["body"]["jobs"][0]["state"]["current"] = "PENDING"
    network.delete(
        f"http://c2.example:6820/slurm/v0.0.38/job/{job_id}_3", json=unknown["body"], status=unknown["status"]
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
    record = exchange["response"]["body"]["jobs"][1]
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


@pytest.mark.parametrize("version", ADAPTERS)
def test_every_recorded_answer_has_a_meaning(version):
    paths = sorted((RECORDED / version).glob("*.json"))
    assert paths
    for path in paths:
        text = path.read_text()
        exchange = json.loads(text)
        answer = exchange["response"]
        if answer["status"] != 304:  # "not modified since", of 22.05 alone, which the client does not ask for
            response = classify(
                answer["status"], answer["headers"].get("Content-Type", ""), body_of(exchange)
            )
            assert response.kind != "broken", path
        assert "eyJ" not in text, f"a token was recorded in {path}"
