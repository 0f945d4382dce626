"""What the client makes of exchanges recorded with Slurm 24.11.5 (v0.0.40 to 42) and 26.05.5 (v0.0.43 to 45)."""

from __future__ import annotations

import pytest
from recordings import RECORDED, URL, load

from qslurm.errors import (
    PermissionDeniedError,
    TokenError,
    UncertainError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.slurm.rest.adapters import ADAPTERS

NEWER = [version for version in ADAPTERS if version > "v0.0.39"]
SILENT = [version for version in NEWER if ADAPTERS[version].cancels_in_silence]
PAYLOAD = {"job": {"partition": "p_qx", "environment": ["PATH=/bin"]}, "script": "#!/bin/sh\n"}

JOBS = {
    "job_pending_partition_down": ("PENDING", "PartitionDown", None, None),
    "job_running": ("RUNNING", "", None, None),
    "job_completed": ("COMPLETED", "", 0, None),
    "job_failed": ("FAILED", "NonZeroExitCode", 3, None),
    "job_cancelled": ("CANCELLED", "", None, 15),
    "job_cancelled_pending": ("CANCELLED", "PartitionDown", None, None),
    "job_timeout": ("TIMEOUT", "TimeLimit", None, 15),
}


@pytest.fixture(params=NEWER)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


def _job_id(exchange):
    return int(exchange["request"]["path"].rsplit("/", 1)[1].partition("_")[0])


def _submissions(version):
    return {path.stem for path in (RECORDED / version).glob("submit_*.json")}


# --- submitting


def test_a_job_id_means_accepted_and_each_warning_is_said_once(version, client, replay, network):
    for name in sorted(_submissions(version)):
        network.reset()
        exchange = replay(version, name)
        if not isinstance(exchange["response"]["body"], dict) or not exchange["response"]["body"].get(
            "job_id"
        ):
            continue
        submitted = client(version).submit(PAYLOAD)
        assert submitted.job_id == exchange["response"]["body"]["job_id"], name
        assert len(set(submitted.warnings)) == len(submitted.warnings)
        assert not any("non-zero return code" in warning for warning in submitted.warnings)


def test_a_held_job_and_a_drained_node_are_warnings(version, client, replay):
    replay(version, "submit_hold")
    assert client(version).submit(PAYLOAD).warnings == ["Job is in held state, pending scheduler release"]


@pytest.mark.parametrize(
    ("name", "field", "changed_in"),
    [
        ("submit_environment_dict", "environment", "v0.0.40"),
        ("submit_nodes_integer", "nodes", "v0.0.40"),
        ("submit_exclusive", "exclusive", "v0.0.42"),
        ("submit_oversubscribe", "oversubscribe", "v0.0.42"),
        ("submit_unknown_field", "nonsense", "v0.0.40"),
    ],
)
def test_a_field_that_a_server_does_not_take_as_it_is_is_never_sent_so(
    name, field, changed_in, version, client
):
    """Slurm says which; `nonsense` has no form that it takes, so that one's warning reaches the user."""
    exchange = load(version, name)
    complaint = f"#/job/{field}/"
    sources = [warning.get("source") for warning in exchange["response"]["body"]["warnings"]]
    assert (complaint in sources) == (version >= changed_in)
    if field == "nonsense" or version < changed_in:
        return
    given = exchange["request"]["body"]
    sent = ADAPTERS[version].payload(given)["job"]
    assert sent.get(field) != given["job"][field]


# --- jobs


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_read_as_slurmctld_has_it(name, version, client, replay):
    exchange = replay(version, name)
    job = client(version).job(_job_id(exchange))
    state, reason, exit_code, signal = JOBS[name]
    assert (job.state, job.reason, job.source) == (state, reason, "slurmctld")
    assert signal is None or job.signal == signal
    assert exit_code is None or job.exit_code == exit_code
    assert (job.user, job.account, job.partition) == ("center_snellius", "snellius", "p_qx")
    assert job.is_final == (state not in {"PENDING", "RUNNING"})
    assert (job.submit_time or 0) > 1_700_000_000
    assert (job.start_time is None) == (state == "PENDING")
    assert (job.end_time is not None) == job.is_final
    assert job.time_limit_minutes == (1 if name == "job_timeout" else 1440)
    assert job.marks.kind == "script"
    assert len(job.marks.key or "") == 32


def test_an_arrays_tasks_are_read_each(version, client, replay):
    exchange = replay(version, "job_array")
    tasks = client(version).tasks(_job_id(exchange))
    assert {task.array_job_id for task in tasks} == {_job_id(exchange)}
    assert {task.user for task in tasks} == {"center_snellius"}


def test_the_list_of_jobs_is_read_whole_and_searched_by_key(version, client, replay):
    exchange = replay(version, "jobs")
    records = exchange["response"]["body"]["jobs"]
    assert [job.job_id for job in client(version).jobs()] == [record["job_id"] for record in records]
    key = records[1]["comment"].split("key=")[1].split()[0]
    found = client(version).find_by_key(key)
    assert found is not None
    assert found.job_id == records[1]["job_id"]


def test_a_job_that_slurmctld_forgot_comes_from_the_accounting(version, client, replay, network):
    accounted = replay(version, "slurmdb_job")
    job_id = _job_id(accounted)
    unknown = load(version, "job_unknown")["response"]
    network.get(f"{URL}/slurm/{version}/job/{job_id}", json=unknown["body"], status=unknown["status"])
    job = client(version).job(job_id)
    assert (job.state, job.source, job.time_limit_minutes) == ("TIMEOUT", "slurmdbd", 1)
    assert len(job.marks.key or "") == 32


def test_a_job_that_nobody_knows_is_unknown(version, client, replay):
    replay(version, "job_unknown")
    replay(version, "slurmdb_job_unknown")
    with pytest.raises(UnknownJobError):
        client(version).job(999999)


# --- cancelling


@pytest.mark.parametrize("name", ["cancel_pending", "cancel_running"])
def test_a_job_that_waits_or_runs_is_cancelled(name, version, client, replay, network):
    exchange = replay(version, name)
    _register(network, version, _job_id(exchange), "job_running")
    assert client(version).cancel(_job_id(exchange)) == []


def test_cancelling_a_job_that_is_over_is_well_with_a_warning(version, client, replay, network):
    exchange = replay(version, "cancel_finished")
    _register(network, version, _job_id(exchange), "job_completed")
    (warning,) = client(version).cancel(_job_id(exchange))
    assert "completed" in warning


def test_cancelling_a_job_that_nobody_knows_says_so(version, client, replay):
    for name in ("cancel_unknown", "job_unknown", "slurmdb_job_unknown"):
        replay(version, name)
    with pytest.raises(UnknownJobError):
        client(version).cancel(999999)


@pytest.mark.parametrize("version", SILENT)
def test_where_a_cancellation_is_answered_in_silence_another_centers_job_is_not_touched(
    version, client, replay, network
):
    exchange = replay(version, "job_running_other_user_cancel")
    assert exchange["response"]["body"]["errors"] == []
    record = load(version, "job_running")["response"]["body"]
    record["jobs"][0]["user_name"] = "center_lumi"
    network.get(f"{URL}/slurm/{version}/job/{_job_id(exchange)}", json=record)
    with pytest.raises(PermissionDeniedError):
        client(version).cancel(_job_id(exchange))
    assert [call.request.method for call in network.calls] == ["GET"]


def test_a_task_that_an_array_does_not_have_is_unknown(version, client, replay, network):
    exchange = replay(version, "cancel_task_unknown")
    job_id = _job_id(exchange)
    _register(network, version, job_id, "job_array")
    replay(version, "slurmdb_job_unknown")
    network.get(
        f"{URL}/slurmdb/{version}/job/{job_id}", json=load(version, "slurmdb_job_unknown")["response"]["body"]
    )
    if version in SILENT:
        assert exchange["response"]["body"]["errors"] == []  # nobody can tell
        return
    with pytest.raises(UnknownJobError):
        client(version).cancel(job_id, 9)


def _register(network, version, job_id, name):
    response = load(version, name)["response"]
    network.get(f"{URL}/slurm/{version}/job/{job_id}", json=response["body"], status=response["status"])


# --- changing


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("update_release", None),
        ("update_unknown", UnknownJobError),
        ("update_other_user", PermissionDeniedError),
    ],
)
def test_a_job_is_changed_or_it_is_said_why_not(name, kind, version, client, replay):
    exchange = replay(version, name)
    if kind is None:
        assert client(version).update(_job_id(exchange), {"hold": False}) == []
        return
    with pytest.raises(kind):
        client(version).update(_job_id(exchange), {"hold": False})


# --- tokens, and daemons that are away


@pytest.mark.parametrize("name", ["ping", "auth_bearer", "auth_only_token"])
def test_an_accepted_token_pings(name, version, client, replay):
    replay(version, name)
    client(version).ping()


def test_a_ping_tells_a_refused_token_from_a_dead_slurmctld(version, client, replay, network):
    for ping, job, kind in (
        ("auth_other_key", "auth_other_key_job", TokenError),
        ("ping_controller_dead", "job_controller_dead", UnreachableError),
    ):
        network.reset()
        replay(version, ping)
        replay(version, job)
        with pytest.raises(kind):
            client(version).ping()


@pytest.mark.parametrize(
    ("name", "ask"),
    [("auth_other_key_job", "job"), ("auth_other_key_cancel", "cancel"), ("auth_none", "ping")],
)
def test_a_refused_token_is_a_token_error_on_every_path(name, ask, version, client, replay):
    replay(version, name)
    replay(version, "auth_other_key_job")
    arguments = [] if ask == "ping" else [1]
    with pytest.raises(TokenError, match="refused the token"):
        getattr(client(version), ask)(*arguments)


@pytest.mark.parametrize(
    ("name", "ask"), [("job_controller_dead", "job"), ("cancel_controller_dead", "cancel")]
)
def test_a_dead_slurmctld_is_unreachable_and_the_token_is_not_blamed(
    name, ask, version, client, replay, network
):
    replay(version, name)
    replay(version, "job_controller_dead")
    network.get(f"{URL}/slurmdb/{version}/job/1", json={"jobs": [], "errors": []})
    with pytest.raises(UnreachableError, match="slurmctld"):
        getattr(client(version), ask)(1)


@pytest.mark.parametrize("number", [5005, 104, 32])
def test_a_slurmctld_that_hangs_up_leaves_a_doubt_and_the_token_is_not_blamed(
    number, version, client, network
):
    """Seen: a slurmrestd 24.11 before a slurmctld 22.05, as in the midst of an upgrade."""
    broken_off = {"errors": [{"error_number": number, "error": "Zero Bytes were transmitted or received"}]}
    network.post(f"{URL}/slurm/{version}/job/submit", json=broken_off, status=502)
    network.get(f"{URL}/slurm/{version}/jobs", json=broken_off, status=502)
    with pytest.raises(UncertainError):
        client(version).submit(PAYLOAD)
    with pytest.raises(UnreachableError) as caught:
        client(version).jobs()
    assert not isinstance(caught.value, UncertainError)
    assert len(network.calls) == 2


def test_an_accounting_that_is_away_is_told_from_a_refused_token(version, client, replay, network):
    for accounting, control, kind in (
        ("slurmdb_auth_other_key", "auth_other_key_job", TokenError),
        ("slurmdb_dead", "job_unknown", UnreachableError),
    ):
        network.reset()
        answer = load(version, accounting)["response"]
        network.get(f"{URL}/slurmdb/{version}/jobs", json=answer["body"], status=answer["status"])
        answer = load(version, control)["response"]
        network.get(f"{URL}/slurm/{version}/job/1", json=answer["body"], status=answer["status"])
        with pytest.raises(kind):
            client(version).accounted(0)
