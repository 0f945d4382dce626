"""Recorded exchanges mean what the table in meanings.py says, and every recorded error number means something."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest
import requests
import responses
from meanings import ALL, AWAY, FINE, FOLDERS, MEANINGS, TOKEN, WITHOUT_ACCOUNTING, meaning_of, version_of
from recordings import RECORDED, URL, body_of, load

from qslurm.errors import (
    AccountingAwayError,
    QslurmError,
    RefusedError,
    TokenError,
    UncertainError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.slurm.rest import SlurmrestClient
from qslurm.slurm.rest.adapters import ADAPTERS
from qslurm.slurm.rest.classify import KINDS, KINDS_AS, KINDS_AT, ClassifiedResponse, Kind, classify
from qslurm.slurm.rest.refusals import HINTS, error_for

PAYLOAD = {"job": {"partition": "p_qx", "environment": ["PATH=/bin"]}, "script": "#!/bin/sh\n"}


def test_somebody_has_said_what_each_recorded_exchange_means():
    assert {name for _, name in ALL} <= set(MEANINGS)


# --- the server around an exchange, as it is in the same fault


class RecordedServer:
    """Answers what it was told to with recorded answers; it is away for everything else."""

    def __init__(self, network: responses.RequestsMock) -> None:
        self._said: dict[tuple[str, str], dict[str, Any]] = {}
        self.asked: list[str] = []
        for method in ("GET", "POST", "DELETE", "PUT"):
            network.add_callback(method, re.compile(f"{URL}/.*"), self._answer)

    def says(self, version: str, name: str, method: str = "", path: str = "") -> dict[str, Any]:
        """Answer as recorded; what was recorded, or something else."""
        exchange = load(version, name)
        request = exchange["request"]
        self._said[method or request["method"], (path or request["path"]).split("?")[0]] = exchange
        return exchange

    def answers(self, method: str, path: str, body: dict[str, Any], status: int = 500) -> None:
        """Answer with what was not recorded."""
        headers = {"Content-Type": "application/json"}
        self._said[method, path] = {"response": {"status": status, "headers": headers, "body": body}}

    def knows(self, version: str, name: str, path: str) -> None:
        """The same of a question, if it was recorded of this version."""
        if (RECORDED / version / f"{name}.json").exists():
            self.says(version, name, "GET", path)

    def _answer(self, request: requests.PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        path = urlsplit(str(request.url)).path
        self.asked.append(f"{request.method} {path}")
        if (exchange := self._said.get((str(request.method), path))) is None:
            raise requests.ConnectionError(path)
        answer = exchange["response"]
        kind = answer["headers"].get("Content-Type", "text/plain")
        return answer["status"], {"Content-Type": kind}, body_of(exchange)


@pytest.fixture
def server(network: responses.RequestsMock) -> RecordedServer:
    """A slurmrestd that says nothing yet."""
    return RecordedServer(network)


def _scene(server: RecordedServer, folder: str, name: str) -> None:
    """What the server says to the client's other questions, in this version of its API."""
    ping, job, jobs, accounting = "ping", "job_running", "", "slurmdb_job_unknown"
    if name in TOKEN or name == "ping_slurmdbd_dead_other_key":
        ping, job, jobs = "auth_other_key", "auth_other_key_job", "auth_other_key_jobs"
        accounting = "slurmdb_auth_other_key" if name in TOKEN else "slurmdb_dead"
    elif name in WITHOUT_ACCOUNTING:
        ping, accounting = "ping_slurmdbd_dead", "slurmdb_dead"
    elif name in AWAY:
        ping, job = "ping_controller_dead", "job_controller_dead"
    version = version_of(folder)
    server.knows(folder, ping, f"/slurm/{version}/ping")
    server.knows(folder, job, f"/slurm/{version}/job/1")
    server.knows(folder, jobs, f"/slurm/{version}/jobs")
    server.knows(folder, accounting, f"/slurmdb/{version}/job/1")


def _beside(server: RecordedServer, version: str, name: str, path: str) -> None:
    """The same of the version beside, which also answers what is asked."""
    other = ADAPTERS[version].fallback_version
    if not other:
        return
    folder = OF_23_02
    _scene(server, folder, name)
    same = path.replace(version, other)
    ending = "_slurmdbd_dead" if name in WITHOUT_ACCOUNTING else ""
    if "cancel" in name:
        server.says(folder, "auth_other_key_cancel" if name in TOKEN else "cancel_running", "DELETE", same)
    elif path.endswith("/partitions"):
        server.says(folder, f"partitions{ending}", "GET", same)
    elif ending:
        server.knows(folder, name, same)


OF_23_02 = "v0.0.38-of-23.02"
QUESTIONS = ("jobs", "partitions", "ping")


def _asked(client: SlurmrestClient, spoken: str, exchange: dict[str, Any]) -> None:
    """Ask what the recorded request asked."""
    method, path = exchange["request"]["method"], exchange["request"]["path"].split("?")[0]
    of, version, what, *rest = path.split("/")[1:]
    job_id, _, task = (rest[0] if rest else "").partition("_")
    if path.endswith("/job/submit") and method == "POST":
        client.submit(PAYLOAD)
    elif method == "DELETE":
        client.cancel(int(job_id), int(task) if task else None)
    elif method == "POST":
        client.update(int(job_id), {"hold": False})
    elif what == "job" and job_id.isdigit():
        (client.tasks if of == "slurm" else client.accounted_tasks)(int(job_id))
    elif of == "slurmdb" and what == "jobs":
        client.accounted(0)
    elif of == "slurm" and what in QUESTIONS and method == "GET" and version == spoken:
        getattr(client, what)()
    else:  # what the client never asks: what it would make of the answer
        answer = exchange["response"]
        response = classify(answer["status"], answer["headers"].get("Content-Type", ""), body_of(exchange))
        if response.kind not in ("ok", "accepted"):
            raise error_for(response, "this")


@pytest.mark.parametrize("folder", FOLDERS)
def test_recorded_exchanges_mean_what_the_table_says(folder, client, network):
    """All of a version, since each takes less than a test does; those that mean something else are named."""
    wrong = {}
    for name in FOLDERS[folder]:
        network.reset()
        try:
            _means_what_the_table_says(folder, name, client, RecordedServer(network))
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - whatever it is, it is told with its name
            wrong[name] = error
    assert not wrong


def _means_what_the_table_says(
    folder: str, name: str, client: Callable[..., SlurmrestClient], server: RecordedServer
) -> None:
    meaning, version = meaning_of(name, folder), version_of(folder)
    path = load(folder, name)["request"]["path"].split("?")[0]
    if path.startswith(
        f"/slurm/{version}/job/"
    ):  # what slurmctld does not know, slurmdbd does not know, either
        accounted = path.replace("/slurm/", "/slurmdb/").partition("_")[0]
        server.knows(folder, "slurmdb_job_unknown", accounted)
    _scene(server, folder, name)
    _beside(server, version, name, path)
    exchange = server.says(folder, name)
    if exchange["request"]["method"] == "DELETE" and ADAPTERS[version].cancels_in_silence:
        assert classify(200, "application/json", body_of(exchange)).kind == "ok" or meaning is not FINE
        return  # the same is said of every job, and the client asks first: test_newer_versions.py
    kind, number = meaning if isinstance(meaning, tuple) else (meaning, 0)
    if kind is FINE:
        _asked(client(version), version, exchange)
    else:
        with pytest.raises(QslurmError) as caught:
            _asked(client(version), version, exchange)
        assert type(caught.value) is kind, caught.value
        assert not number or f"(Slurm error {number})" in str(caught.value)
        assert str(caught.value).endswith((".", "?"))
    changes = [asked for asked in server.asked if not asked.startswith("GET")]
    assert len(changes) == len(set(changes)), "what changes something was sent twice"
    assert sum(asked.endswith("/job/submit") for asked in changes) <= 1


# --- numbers


def _errors(exchange: dict[str, Any]) -> list[dict[str, Any]]:
    body = exchange["response"]["body"]
    if not isinstance(body, dict) or body.get("job_id"):
        return []
    told = [entry["error"] for entry in body.get("status") or []]
    told = [{"error_number": one["code"], "error": one["message"]} for one in told]
    return [*(body.get("errors") or []), *told]


@pytest.mark.parametrize("version", ADAPTERS)
def test_each_recorded_error_number_means_something(version):
    """What is in no table counts as refused: that has to be said, with what to do about it."""
    for path in sorted((RECORDED / version).glob("*.json")):
        for error in _errors(load(version, path.stem)):
            number = error.get("error_number", error.get("error_code", error.get("errno", 0)))
            known = number in KINDS or number in HINTS or number == 0
            at, said = (number, error.get("source")), (number, error.get("description"))
            assert known or at in KINDS_AT or said in KINDS_AS, f"{path}: nobody has said what {number} means"


def test_no_number_means_two_things():
    assert not set(KINDS) & set(HINTS)


LEAVES_NO_DOUBT = {
    *("token", "permission", "unknown_job", "already_over", "duplicate", "refused"),
    *("no_such_path", "no_controller"),
}


@pytest.mark.parametrize("kind", [one for one in get_args(Kind) if one not in ("ok", "accepted")])
def test_a_submission_of_which_the_answer_says_nothing_is_looked_up(kind):
    """An error that is no UncertainError says that the job does not exist, and its user submits again."""
    error = error_for(ClassifiedResponse(kind), "the job", submitting=True)
    assert isinstance(error, UncertainError) == (kind not in LEAVES_NO_DOUBT)


@pytest.mark.parametrize("number", [number for number, kind in KINDS.items() if kind not in LEAVES_NO_DOUBT])
@pytest.mark.parametrize("version", ["v0.0.38", "v0.0.39", "v0.0.45"])
def test_a_silence_is_not_called_a_refused_token_while_the_token_is_good(version, number, client, server):
    """Of a submission, and of a question; slurmdbd believes the token."""
    for other in (version, ADAPTERS[version].fallback_version):
        if other:
            server.knows(other, "slurmdb_job_unknown", f"/slurmdb/{other}/job/1")
            server.knows(other, "ping", f"/slurm/{other}/ping")
            server.knows(other, "job_unknown", f"/slurm/{other}/job/1")
    server.says("v0.0.39", "version_unknown", "GET", "/slurm/v0.0.38/job/7")
    said = {"errors": [{"error_number": number, "error": "Unspecified error", "source": "somewhere"}]}
    for method, path in (("POST", "job/submit"), ("GET", "job/7")):
        server.answers(method, f"/slurm/{version}/{path}", said)
    with pytest.raises(UncertainError):
        client(version).submit(PAYLOAD)
    with pytest.raises(UnreachableError) as caught:
        client(version).job(7)
    assert isinstance(caught.value, AccountingAwayError) == (number == 7000)
    assert not isinstance(caught.value, UncertainError)


# --- v0.0.39 while slurmdbd is away, with v0.0.38 beside it and without

ASKED_WITHOUT_ACCOUNTING = {
    "job_slurmdbd_dead": lambda client: client.tasks(5),
    "jobs_slurmdbd_dead": lambda client: client.jobs(),
    "cancel_slurmdbd_dead": lambda client: client.cancel(5),
    "update_release": lambda client: client.update(5, {"hold": False}),
    "partitions_slurmdbd_dead": lambda client: client.partitions(),
}


def _without_accounting(server: RecordedServer, *, beside: bool) -> None:
    """C2 while slurmdbd is away, as v0.0.39 and v0.0.38 tell it."""
    away = load("v0.0.39", "job_slurmdbd_dead")["response"]["body"]
    for method, path in (
        *(("GET", "job/5"), ("DELETE", "job/5"), ("POST", "job/5"), ("GET", "jobs"), ("GET", "partitions")),
    ):
        server.answers(method, f"/slurm/v0.0.39/{path}", away)
    server.says("v0.0.39", "ping_slurmdbd_dead")
    server.says("v0.0.39", "slurmdb_dead")
    for name in (*ASKED_WITHOUT_ACCOUNTING, "ping", "slurmdb_dead"):
        exchange = load(OF_23_02, name)
        path = re.sub(r"(?<=slurm/v0.0.38/job/)\d+", "5", exchange["request"]["path"])
        if beside:
            server.says(OF_23_02, name, path=path)
        else:
            server.says("v0.0.39", "version_unknown", exchange["request"]["method"], path)


@pytest.mark.parametrize("name", ASKED_WITHOUT_ACCOUNTING)
def test_without_the_accounting_the_version_beside_is_asked(name, client, server):
    _without_accounting(server, beside=True)
    ASKED_WITHOUT_ACCOUNTING[name](client())
    assert len([asked for asked in server.asked if "v0.0.38" in asked]) == 1


@pytest.mark.parametrize("name", ASKED_WITHOUT_ACCOUNTING)
def test_without_the_accounting_and_a_version_beside_the_token_is_not_blamed(name, client, server):
    _without_accounting(server, beside=False)
    with pytest.raises(AccountingAwayError):
        ASKED_WITHOUT_ACCOUNTING[name](client())


@pytest.mark.parametrize("beside", [True, False])
def test_a_ping_proves_the_token_without_the_accounting(beside, client, server):
    _without_accounting(server, beside=beside)
    client().ping()


@pytest.mark.parametrize("accounting", ["slurmdb_auth_other_key", "slurmdb_dead"])
@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("name", ["auth_other_key", "auth_other_key_job", "auth_other_key_submit"])
def test_a_refused_token_is_told_from_an_accounting_that_is_away(name, beside, accounting, client, server):
    """23.02's slurmdbd says the same of both; its slurmctld is asked."""
    exchange = server.says("v0.0.39", name)
    server.says("v0.0.39", "auth_other_key")
    server.says("v0.0.39", "auth_other_key_jobs")
    server.says("v0.0.39", accounting, path="/slurmdb/v0.0.39/job/1")
    for path, refused in (("ping", "auth_other_key"), ("job/1", "auth_other_key_job")):
        said = (OF_23_02, refused) if beside else ("v0.0.39", "version_unknown")
        server.says(*said, "GET", f"/slurm/v0.0.38/{path}")
    with pytest.raises(TokenError, match="refused the token"):
        _asked(client(), "v0.0.39", exchange)


def test_two_daemons_that_are_away_are_not_called_a_refused_token(client, server):
    """slurmctld and slurmdbd, as while C2 starts: a `wait` has to go on."""
    away, dead = (
        load("v0.0.39", name)["response"]["body"] for name in ("slurmdb_dead", "job_controller_dead")
    )
    server.says("v0.0.39", "slurmdb_dead")
    server.says("v0.0.39", "job_slurmdbd_dead", path="/slurm/v0.0.39/job/5")
    server.says(OF_23_02, "job_controller_dead", path="/slurm/v0.0.38/job/5")
    server.answers("GET", "/slurm/v0.0.39/ping", {"errors": away["errors"], "pings": [{"pinged": "DOWN"}]})
    server.answers("GET", "/slurm/v0.0.39/jobs", {"errors": [*away["errors"], *dead["errors"]]})
    with pytest.raises(UnreachableError, match="does not answer"):
        client().tasks(5)


def test_a_submission_that_a_frozen_slurmctld_took_is_not_known_to_exist_or_not(client, server):
    """Seen: 8 of 8 ran. The accounting is away as well, or not."""
    lost = load("v0.0.39", "submit_controller_frozen")["response"]["body"]
    away = load("v0.0.39", "slurmdb_dead")["response"]["body"]
    server.says("v0.0.39", "slurmdb_dead")
    server.answers("GET", "/slurm/v0.0.39/ping", {"errors": away["errors"], "pings": [{"pinged": "DOWN"}]})
    for errors in (lost["errors"], away["errors"] + lost["errors"]):
        server.answers("POST", "/slurm/v0.0.39/job/submit", {"errors": errors})
        with pytest.raises(UncertainError):
            client().submit(PAYLOAD)


def test_a_job_is_released_with_an_environment_where_it_needs_one(client, server):
    sent = load("v0.0.39", "update_release_environment")["request"]["body"]
    assert ADAPTERS["v0.0.39"].change({"hold": False}) == sent
    for version in ("v0.0.38", "v0.0.40", "v0.0.45"):
        assert ADAPTERS[version].change({"hold": False}) == {"hold": False}


def test_the_state_of_a_partition_is_asked_where_it_is_said(client, server):
    server.says("v0.0.39", "partitions")
    server.says(OF_23_02, "partitions")
    assert client().partitions() == {"p_qx": "UP", "p_spin2": "UP"}


def test_a_state_that_nobody_says_is_not_called_closed(client, server):
    server.says("v0.0.39", "partitions")
    server.says("v0.0.39", "version_unknown", "GET", "/slurm/v0.0.38/partitions")
    assert client().partitions() == {"p_qx": "UNKNOWN", "p_spin2": "UNKNOWN"}


def test_one_task_is_not_cancelled_by_a_version_that_would_cancel_them_all(client, server):
    """v0.0.39 reads 26_2 as 26: recorded, where 26_9 was "already" killed."""
    for name in ("cancel_task", "cancel_task_unknown"):
        server.says("v0.0.39", name)
    server.says(OF_23_02, "cancel_task", "DELETE", "/slurm/v0.0.38/job/26_2")
    assert client().cancel(26, 2) == []
    assert server.asked == ["DELETE /slurm/v0.0.38/job/26_2"]
    server.says("v0.0.39", "version_unknown", "DELETE", "/slurm/v0.0.38/job/26_2")
    with pytest.raises(RefusedError, match="all of job 26"):
        client().cancel(26, 2)
    assert "DELETE /slurm/v0.0.39/job/26_2" not in server.asked


# --- how a job ended, as slurmdbd has it


ACCOUNTED = [(folder, name) for folder, name in ALL if name.startswith("slurmdb_job")]


@pytest.mark.parametrize(("folder", "name"), ACCOUNTED)
def test_no_job_that_did_not_complete_is_said_to_have_ended_with_0(folder, name):
    """22.05 and 23.02 say `return_code` 0 of each, sacct says 3:0."""
    body = load(folder, name)["response"]["body"]
    for record in body.get("jobs") or []:
        job = ADAPTERS[version_of(folder)].accounted(record)
        assert job.exit_code == 0 if job.state == "COMPLETED" else job.exit_code != 0
        if name == "slurmdb_job_failed":
            assert job.exit_code in (None, 3)


@pytest.mark.parametrize("job_id", [0, 2**32 - 2, 2**32, 2**63])
def test_a_number_that_no_job_has_is_an_unknown_job_and_nobody_is_asked(job_id, client, server):
    """24.11 and 26.05 call it a bad query (9000)."""
    asked = client("v0.0.45")
    for ask in (
        asked.job,
        asked.tasks,
        asked.cancel,
        asked.accounted_tasks,
        lambda one: asked.update(one, {}),
    ):
        with pytest.raises(UnknownJobError):
            ask(job_id)
    assert server.asked == []
