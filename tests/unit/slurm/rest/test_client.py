"""How the client finds the version, what it never sends twice, and what it never prints."""

from __future__ import annotations

import json
import socket
import traceback

import pytest
import requests
from recordings import TOKEN, URL, load

from qslurm.errors import (
    ConfigError,
    InvalidInputError,
    QslurmError,
    RefusedError,
    TokenError,
    UncertainError,
    UnreachableError,
)
from qslurm.slurm.rest import SlurmrestClient
from qslurm.slurm.rest.adapters import ADAPTERS
from qslurm.slurm.rest.endpoint import Endpoint
from qslurm.tokens.secret import Secret

PAYLOAD = {"job": {"partition": "p_qx", "environment": ["PATH=/bin"]}, "script": "#!/bin/sh\n"}
OK = {"errors": [], "job_id": 7, "step_id": "batch", "job_submit_user_msg": "welcome"}


# --- finding the version


@pytest.mark.parametrize("version", ADAPTERS)
def test_the_newest_version_both_speak_is_found_and_told(version, client, replay, unserved, network):
    unserved(*(other for other in ADAPTERS if other != version))
    replay(version, "ping")
    told: list[str] = []
    found = client("auto", on_version=told.append)
    assert found.api_version == version
    assert found.api_version == version
    assert told == [version]
    assert len(network.calls) == 1 + list(ADAPTERS).index(version)


def test_a_remembered_version_is_not_asked_for(client, network):
    network.post(f"{URL}/slurm/v0.0.38/job/submit", json=OK)
    assert client("auto", known_version="v0.0.38").submit(PAYLOAD).message == "welcome"
    assert len(network.calls) == 1


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (404, "text/plain", load("v0.0.38", "version_unknown")["response"]["body"]),
        (404, "text/plain", load("v0.0.45", "version_unknown")["response"]["body"]),
        (404, "text/html", "<html>a proxy's page</html>"),
        (410, "text/plain", "Gone"),
    ],
)
def test_a_remembered_version_that_is_gone_is_found_again(
    status, kind, words, client, replay, unserved, network
):
    network.post(f"{URL}/slurm/v0.0.38/job/submit", body=words, status=status, content_type=kind)
    unserved("v0.0.45", "v0.0.44", "v0.0.43", status=status, kind=kind, words=words)
    replay("v0.0.42", "ping")
    network.post(f"{URL}/slurm/v0.0.42/job/submit", json=OK)
    told: list[str] = []
    center = client("auto", known_version="v0.0.38", on_version=told.append)
    assert center.submit(PAYLOAD).job_id == 7
    assert told == ["v0.0.42"]
    assert json.loads(network.calls[-1].request.body)["job"]["environment"] == ["PATH=/bin"]
    assert center.submit(PAYLOAD).job_id == 7
    assert len(network.calls) == 7, "the new version is remembered"


def test_an_accounting_that_lost_its_version_is_asked_in_the_new_one(client, replay, unserved, network):
    unknown = load("v0.0.42", "version_unknown")["response"]
    for path in ("slurmdb/v0.0.38/jobs", "slurm/v0.0.38/ping"):
        network.get(f"{URL}/{path}", body=unknown["body"], status=404, content_type="text/plain")
    unserved("v0.0.45", "v0.0.44", "v0.0.43")
    replay("v0.0.42", "ping")
    network.get(f"{URL}/slurmdb/v0.0.42/jobs", json={"jobs": [], "errors": []})
    assert client("auto", known_version="v0.0.38").accounted(0) == []


def test_a_center_that_has_no_job_in_the_accounting_has_an_empty_list(client, network):
    nothing = load("v0.0.38", "slurmdb_job_unknown")["response"]  # 22.05 says the same of a list
    network.get(f"{URL}/slurmdb/v0.0.38/jobs", json=nothing["body"], status=nothing["status"])
    assert client("v0.0.38").accounted(0) == []


def test_a_missing_accounting_is_no_reason_to_look_for_another_version(client, replay, network):
    unknown = load("v0.0.42", "path_unknown")["response"]
    network.get(f"{URL}/slurmdb/v0.0.42/jobs", body=unknown["body"], status=404, content_type="text/plain")
    replay("v0.0.42", "ping")
    center = client("auto", known_version="v0.0.42")
    with pytest.raises(UnreachableError, match="does not support this"):
        center.accounted(0)
    assert len(network.calls) == 2
    assert center.api_version == "v0.0.42"


def test_a_server_that_is_away_while_the_version_is_looked_for_is_asked_again_later(
    client, replay, unserved, network
):
    network.get(f"{URL}/slurm/v0.0.45/ping", body=requests.exceptions.ConnectionError("refused"))
    center = client("auto")
    with pytest.raises(UnreachableError):
        center.ping()
    network.remove("GET", f"{URL}/slurm/v0.0.45/ping")
    replay("v0.0.45", "ping")
    center.ping()
    assert center.api_version == "v0.0.45"


def test_a_version_that_was_asked_for_stays(client, network):
    unknown = load("v0.0.38", "version_unknown")["response"]
    network.post(
        f"{URL}/slurm/v0.0.38/job/submit", body=unknown["body"], status=404, content_type="text/plain"
    )
    with pytest.raises(UnreachableError, match="auto"):
        client("38").submit(PAYLOAD)
    assert len(network.calls) == 1


def test_a_server_that_speaks_none_of_the_versions_says_so(client, unserved):
    unserved(*ADAPTERS)
    with pytest.raises(UnreachableError, match=r"none of the API versions v0\.0\.45, .*, v0\.0\.38"):
        client("auto").ping()


@pytest.mark.parametrize("spelling", ["v0.0.39", "0.0.39", "39", " V0.0.39 "])
def test_a_version_may_be_spelled_as_people_do(spelling, client):
    assert client(spelling).api_version == "v0.0.39"


@pytest.mark.parametrize("spelling", ["", "v0.0.12", "latest", "0.39", "v1"])
def test_a_version_that_is_none_is_refused(spelling, client):
    with pytest.raises(ConfigError, match=r"v0\.0\.39"):
        client(spelling)


# --- once, and only once


@pytest.mark.parametrize(
    "fault",
    [
        requests.exceptions.ReadTimeout(),
        requests.exceptions.ConnectionError("reset"),
        ConnectionResetError(104, "x"),
    ],
)
def test_a_submission_without_an_answer_is_uncertain_and_not_repeated(fault, client, network):
    network.post(f"{URL}/slurm/v0.0.39/job/submit", body=fault)
    with pytest.raises(UncertainError, match="may have been accepted"):
        client().submit(PAYLOAD)
    assert len(network.calls) == 1


def test_a_connection_that_never_was_leaves_no_doubt():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        client = SlurmrestClient(Endpoint(url, Secret(TOKEN), "center_snellius"), api_version="39")
        with client, pytest.raises(UnreachableError, match="connection refused") as caught:
            client.submit(PAYLOAD)
    assert not isinstance(caught.value, UncertainError)


def test_a_question_without_an_answer_is_just_unreachable(client, network):
    network.get(f"{URL}/slurm/v0.0.39/ping", body=requests.exceptions.ReadTimeout())
    with pytest.raises(UnreachableError) as caught:
        client().ping()
    assert not isinstance(caught.value, UncertainError)


# --- 22.05 says the same for a refused token and a dead slurmctld; its accounting knows the difference


@pytest.fixture
def accounting(network):
    def answers(**answer):
        network.get(f"{URL}/slurmdb/v0.0.38/job/1", **answer)

    return answers


REFUSED_BY_SLURMDBD = load("v0.0.38", "slurmdb_auth_other_key")["response"]["body"]


def test_silence_with_a_token_that_the_accounting_refuses_is_a_token_error(client, replay, accounting):
    replay("v0.0.38", "auth_other_key")
    accounting(json=REFUSED_BY_SLURMDBD)
    with pytest.raises(TokenError):
        client("38").ping()


def test_silence_with_a_token_that_the_accounting_takes_is_a_dead_slurmctld(client, replay, accounting):
    replay("v0.0.38", "ping_controller_dead")
    accounting(json={"errors": [], "jobs": []})
    with pytest.raises(UnreachableError, match="no answer from its slurmctld"):
        client("38").ping()


def test_silence_all_around_is_told_as_what_it_is(client, replay):
    replay("v0.0.38", "ping_controller_dead")
    with pytest.raises(UnreachableError, match="or refused the token"):
        client("38").ping()


def test_a_refused_token_at_submission_is_a_token_error(client, replay, accounting):
    replay("v0.0.38", "auth_other_key_submit")
    accounting(json=REFUSED_BY_SLURMDBD)
    with pytest.raises(TokenError):
        client("38").submit(PAYLOAD)


def test_a_submission_that_slurmctld_cut_off_is_uncertain_when_the_token_is_good(client, replay, accounting):
    replay("v0.0.38", "auth_other_key_submit")
    accounting(json={"errors": [], "jobs": []})
    with pytest.raises(UncertainError):
        client("38").submit(PAYLOAD)


# --- what is never said, and never sent


def _all_texts(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))


@pytest.mark.parametrize("method", ["ping", "jobs", "submit"])
@pytest.mark.parametrize(
    "fault", [requests.exceptions.ReadTimeout("late"), requests.exceptions.SSLError("bad")]
)
def test_the_token_is_in_no_text(method, fault, client, network, caplog):
    caplog.set_level("DEBUG")
    for verb, path in (("GET", "ping"), ("GET", "jobs"), ("POST", "job/submit")):
        network.add(verb, f"{URL}/slurm/v0.0.39/{path}", body=fault)
    made = client()
    with pytest.raises(QslurmError) as caught:
        getattr(made, method)(*([PAYLOAD] if method == "submit" else []))
    assert TOKEN not in _all_texts(caught.value) + repr(made) + str(made) + caplog.text


@pytest.mark.parametrize("token", ["", "no.token", "a b.c.d", "a.b.c\nX-Evil: 1", "ä.b.c", "a.b.c.d"])
def test_what_is_no_token_is_never_sent_nor_shown(token):
    with pytest.raises(TokenError) as caught:
        SlurmrestClient(Endpoint(URL, Secret(token), "center_snellius"))
    assert token == "" or token not in str(caught.value)


def test_a_user_that_would_be_another_header_is_refused():
    with pytest.raises(ConfigError):
        SlurmrestClient(Endpoint(URL, Secret(TOKEN), "me\r\nX-Evil: 1"))


def test_a_secret_is_taken_as_it_is(network):
    network.get(f"{URL}/slurm/v0.0.39/ping", json={"errors": [], "pings": [{"pinged": "UP"}]})
    with SlurmrestClient(Endpoint(URL, Secret(TOKEN), "center_snellius"), api_version="39") as client:
        client.ping()
    assert network.calls[0].request.headers["X-SLURM-USER-TOKEN"] == TOKEN
    assert network.calls[0].request.headers["X-SLURM-USER-NAME"] == "center_snellius"


def test_a_redirect_is_not_followed(client, network):
    network.get(f"{URL}/slurm/v0.0.39/ping", status=302, headers={"Location": "http://elsewhere.example/"})
    elsewhere = network.get("http://elsewhere.example/", json={})
    with pytest.raises(UnreachableError, match="redirect"):
        client().ping()
    assert elsewhere.call_count == 0


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    from qslurm.slurm.rest.transport import Transport

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    transport = Transport(Endpoint(URL, Secret(TOKEN), "u", timeout_s=1))
    settings = transport._session.merge_environment_settings(URL, {}, None, None, None)
    transport.close()
    assert not settings["proxies"]


@pytest.mark.parametrize(
    "url", ["", "c2.example", "ftp://c2", "http://", "http://me:pw@c2:1", "http://c2/?a=b"]
)
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="URL"):
        SlurmrestClient(Endpoint(url, Secret(TOKEN), "u"), api_version="39").ping()


def test_a_payload_that_utf8_can_not_carry_is_refused(client):
    with pytest.raises(InvalidInputError):
        client().submit({"job": {"name": "\udcff", "environment": []}, "script": ""})


def test_a_refusal_carries_slurms_number(client, replay):
    replay("v0.0.39", "submit_bad_partition")
    with pytest.raises(RefusedError) as caught:
        client().submit(PAYLOAD)
    assert caught.value.slurm_error == 2000


@pytest.mark.parametrize("said", [{}, {"jobs": None}, {"errors": []}])
def test_who_says_nothing_of_jobs_does_not_say_that_there_are_none(said, client, network):
    """A submission that C2 seems not to know is sent again."""
    network.get("http://c2.example:6820/slurm/v0.0.39/jobs", json=said)
    with pytest.raises(UnreachableError, match="no list of jobs"):
        client().find_by_key("abc")
