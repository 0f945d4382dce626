"""The table that tells what an answer means, against anything a server could say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.errors import QslurmError, RefusedError, UncertainError
from qslurm.slurm.rest.classify import classify
from qslurm.slurm.rest.refusals import error_for

JSON = "application/json"

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
entries = st.lists(
    st.dictionaries(
        st.sampled_from(["error", "error_number", "error_code", "description", "source"]),
        st.integers(-2, 9300) | st.text(max_size=30) | st.none(),
    )
    | anything,
    max_size=4,
)
answers = st.fixed_dictionaries(
    {},
    optional={
        "errors": entries | anything,
        "warnings": entries | anything,
        "job_id": anything,
        "pings": entries,
    },
)


@given(
    st.integers(100, 599),
    st.sampled_from([JSON, "text/plain", "text/html", "", "application/json; x=y"]),
    st.binary(),
)
def test_no_bytes_are_too_strange(status, content_type, body):
    response = classify(status, content_type, body)
    assert response.kind != "accepted"
    assert isinstance(error_for(response, "the job"), QslurmError)


@given(st.integers(200, 599).filter(lambda status: status not in {401, 511}), answers)
def test_no_document_is_too_strange(status, document):
    response = classify(status, JSON, json.dumps(document).encode())
    job_id = document.get("job_id")
    assert (response.kind == "accepted") == (type(job_id) is int and job_id > 0)
    assert str(error_for(response, "the job", submitting=True))


@given(st.integers(200, 599).filter(lambda status: status not in {401, 511}), entries, st.integers(1, 2**31))
def test_a_job_id_wins_over_every_error_and_status(status, errors, job_id):
    body = json.dumps({"errors": errors, "job_id": job_id}).encode()
    assert classify(status, JSON, body).job_id == job_id


def _answer(number, **more):
    return json.dumps({"errors": [{"error_number": number, "error": "words"}], **more}).encode()


@pytest.mark.parametrize(
    ("status", "number", "kind"),
    [
        (500, 1000, "token_or_lost"),
        (500, 5005, "token_or_cut"),
        (200, 1007, "token"),
        (500, 1800, "no_controller"),
        (500, 1802, "lost"),
        (500, 5004, "lost"),
        (500, 2002, "permission"),
        (500, 2011, "duplicate"),
        (404, 2017, "unknown_job"),
        (500, 2070, "refused"),
        (422, 9999, "refused"),
    ],
)
def test_slurms_error_numbers(status, number, kind):
    assert classify(status, JSON, _answer(number)).kind == kind


@pytest.mark.parametrize("status", [401, 511])
def test_missing_or_newer_refusals_of_a_token(status):
    assert classify(status, "text/plain", b"Authentication failure").kind == "token"


@pytest.mark.parametrize(("number", "kind"), [(2070, "refused"), (9200, "refused"), (1000, "token_or_lost")])
def test_what_is_said_beside_an_accounting_that_is_away_counts(number, kind):
    """23.02 says 7000 beside everything while slurmdbd is away, also where slurmctld has decided."""
    errors = [{"error_number": 7000, "error": "a"}, {"error_number": number, "error": "b"}]
    assert classify(500, JSON, json.dumps({"errors": errors}).encode()).kind == kind


@pytest.mark.parametrize("number", [11, 104, 110, 111, 5005])
def test_what_slurmdbd_was_asked_is_not_blamed_on_slurmctld(number):
    # 111 was seen, of slurmdb_tres_get, beside a list of partitions (24.11, 26.05)
    errors = [{"error_number": number, "error": "Connection refused", "source": "slurmdb_tres_get"}]
    assert classify(500, JSON, json.dumps({"errors": errors}).encode()).kind == "no_accounting"


def test_a_refused_token_is_told_of_partitions_too():
    """22.05 has a field of its own for the number there."""
    body = {"errors": [{"error": "Unspecified error", "errno": -1}], "partitions": []}
    assert classify(500, JSON, json.dumps(body).encode()).kind == "token_or_silence"


def test_a_ping_that_is_up_proves_the_token_though_the_accounting_is_away():
    body = _answer(7000, pings=[{"pinged": "UP"}])
    assert classify(500, JSON, body).kind == "ok"


@pytest.mark.parametrize(
    ("status", "content_type", "body", "said"),
    [
        (200, "text/html", b"<html>\n<title>Welcome</title>", "<html>"),
        (200, JSON, b'{"job_id": 1', "a truncated JSON document"),
        (200, JSON, b"", "an empty answer"),
        (200, JSON, b"[1]", "an unexpected JSON document"),
        (200, JSON, b"[" * 100_000, "a truncated JSON document"),
        (302, "text/html", b"", "a redirect"),
        (500, JSON, b"{}", "without an error"),
    ],
)
def test_what_is_no_slurmrestd_is_told_apart(status, content_type, body, said):
    response = classify(status, content_type, body)
    assert response.kind == "broken"
    error = error_for(response, "the ping")
    assert said in str(error)
    assert "not slurmrestd's" in str(error)
    assert isinstance(error_for(response, "the job", submitting=True), UncertainError)


def test_a_proxy_whose_slurmrestd_is_away_is_not_taken_for_a_wrong_url():
    response = classify(502, "text/html", b"<html>Bad Gateway</html>")
    assert "is down" in str(error_for(response, "the ping"))
    assert "URL" not in str(error_for(response, "the ping"))
    assert isinstance(error_for(response, "the job", submitting=True), UncertainError)


def test_a_field_that_slurmrestd_cannot_read_is_refused_and_leaves_no_doubt():
    """24.11 has the same number for it as 22.05 has for a slurmctld that says nothing."""
    error = {"error_number": -1, "error": "Unspecified error", "description": "Invalid cpu_frequency"}
    body = json.dumps({"errors": [error | {"source": "#/job/cpu_frequency/"}]}).encode()
    refused = error_for(classify(500, JSON, body), "the job", submitting=True)
    assert isinstance(refused, RefusedError)
    assert "Invalid cpu_frequency, in job.cpu_frequency" in str(refused)


def test_control_characters_of_an_answer_reach_no_terminal():
    assert "\x1b" not in classify(500, "text/plain", b"\x1b[2Jboo").words


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (32, "token_or_cut"),
        (104, "token_or_cut"),
        (110, "lost"),
        (111, "no_controller"),
        (113, "no_controller"),
    ],
)
def test_an_error_of_the_kernels_is_about_the_way_to_slurmctld_and_refuses_nothing(number, kind):
    # 104 was seen: slurmctld 22.05 was killed while slurmrestd spoke to it
    body = {"errors": [{"error_code": number, "error": "Connection reset by peer"}]}
    assert classify(500, JSON, json.dumps(body).encode()).kind == kind
