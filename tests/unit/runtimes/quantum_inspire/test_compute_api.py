"""The Compute API as the official client and others see it; the jobs' own way is in tests/slurm."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from qslurm.c2.jobmanager.compute_api.runner import ApiCaller
from qslurm.errors import RefusedError, UncertainError
from qslurm.payload.spec import JobSpec
from qslurm.runtimes.quantum_inspire.platform_link import RequestRefusedError, UnavailableError
from tests.unit.runtimes.quantum_inspire.official import BELL, HYBRID, Official, ask
from tests.unit.runtimes.quantum_inspire.platform import BACKEND, Platform


def test_a_circuit_goes_in_and_its_result_comes_out(official: Official, platform: Platform) -> None:
    job, batch = official.hands_in(BELL, BACKEND, language="cqasm", shots=50, raw_data=True)
    assert (official.job(job).status.value, official.batch(batch).status.value) == ("planned", "planned")
    assert platform.runner.begun == []
    official.asks("BatchJobsApi", "enqueue_batch_job_batch_jobs_id_enqueue_patch", batch)
    found = official.job(job)
    assert (found.status.value, found.algorithm_type.value, found.number_of_shots) == (
        "completed",
        "quantum",
        50,
    )
    (result,) = official.results(job)
    assert sum(result.results.values()) == len(result.raw_data) == result.shots_done == 50
    assert official.batch(batch).status.value == "finished"
    assert official.batch(batch).job_ids == [job]


def test_a_python_file_becomes_a_hybrid_job(official: Official, platform: Platform) -> None:
    official.runs(HYBRID, BACKEND, language="python")
    (spec,) = platform.runner.begun
    assert (spec.kind, spec.source, spec.backend, spec.shots) == ("hybrid", HYBRID, BACKEND, None)


@pytest.mark.parametrize(
    ("text", "language", "shots", "words"),
    [
        ("version 3.0; qubit q; nonsense", "cqasm", 10, "1:"),
        (BELL, "cqasm", 5000, "5000 shots exceed the backend's limit"),
        ("version 3.0; qubit[40] q; bit b; b = measure q[0]", "cqasm", 10, "40 qubits"),
        ("print(1)", "python", None, "function 'execute' is missing"),
        (BELL, "python", None, "file-"),
    ],
)
def test_what_would_fail_is_refused_at_once_with_its_reason(
    official: Official, platform: Platform, text: str, language: str, shots: int | None, words: str
) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        official.hands_in(text, BACKEND, language=language, shots=shots)
    assert caught.value.status == 422
    assert words in caught.value.message


def test_an_enqueue_that_broke_off_is_gone_on_with_and_nothing_is_begun_twice(
    official: Official, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, batch = official.hands_in(BELL, BACKEND, language="cqasm")
    begin = platform.runner.begin

    def breaks_off(caller: ApiCaller, spec: JobSpec) -> int:
        begin(caller, spec)
        raise UncertainError("C2's response was lost.")

    monkeypatch.setattr(platform.runner, "begin", breaks_off)
    enqueue = "enqueue_batch_job_batch_jobs_id_enqueue_patch"
    with pytest.raises(UnavailableError, match="503"):
        official.asks("BatchJobsApi", enqueue, batch)
    monkeypatch.undo()
    assert official.batch(batch).status.value == "planned"
    official.asks("BatchJobsApi", enqueue, batch)
    assert official.job(job).status.value == "completed"
    assert len(platform.runner.begun) == 1
    with pytest.raises(RequestRefusedError, match="is already enqueued"):
        official.asks("BatchJobsApi", enqueue, batch)


def test_a_job_that_slurm_refuses_has_failed_with_its_reason(
    official: Official, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(caller: ApiCaller, spec: JobSpec) -> int:
        raise RefusedError("Your account may not use it.")

    monkeypatch.setattr(platform.runner, "begin", refuses)
    job = official.runs(BELL, BACKEND, language="cqasm")
    found = official.job(job)
    assert (found.status.value, found.message) == ("failed", "Your account may not use it.")
    assert official.results(job) == []


def test_a_job_is_cancelled_once(official: Official, platform: Platform) -> None:
    platform.runner.hold = "running"
    job = official.runs(BELL, BACKEND, language="cqasm")
    assert official.cancels(job).status.value == "cancelled"
    assert platform.runner.cancelled == [1]
    with pytest.raises(RequestRefusedError, match="already cancelled") as caught:
        official.cancels(job)
    assert caught.value.status == 409


def test_logs_come_in_pages(official: Official, platform: Platform) -> None:
    job = official.runs(BELL, BACKEND, language="cqasm")
    assert official.logs(job) == [f"line {number}" for number in range(5)]
    first = ask(platform, "GET", f"/jobs/{job}/logs?limit=3").json()
    rest = ask(platform, "GET", f"/jobs/{job}/logs?start={first['next_start']}").json()
    lines = [one["line"] for page in (first, rest) for one in page["logs"]]
    assert lines == official.logs(job)


LARGE = (2**63 - 1, 2**63, 2**64, 10**18, 10**19, 10**40)


@pytest.mark.parametrize("number", LARGE)
def test_a_number_that_nothing_has_is_unknown_or_refused_wherever_it_stands(
    platform: Platform, number: int
) -> None:
    paths = (
        *("/projects/{}", "/algorithms/{}", "/commits/{}", "/files/{}", "/jobs/{}", "/backend_types/{}"),
        *("/jobs/{}/logs", "/results/job/{}", "/final_results/job/{}", "/backend_types/{}/queue"),
        *("/projects?id={}", "/jobs?file_id={}", "/files?commit_id={}", "/batch_jobs?id={}", "/jobs?page={}"),
        *("/jobs?size={}", "/jobs/1/logs?start={}", "/jobs/1/logs?limit={}"),
    )
    for path in paths:
        answer = ask(platform, "GET", path.format(number))
        assert answer.status_code in {200, 404, 422}, path
        if answer.status_code == 200:  # a list in which nothing is, or a page that is beyond the last one
            assert "=" in path
            assert answer.json()["items"] == [] or "size" in path
    bodies: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/projects", {"owner_id": number, "name": "large", "description": ""}),
        ("POST", "/algorithms", {"project_id": number, "type": "quantum", "shared": "team", "name": ""}),
        ("POST", "/commits", {"algorithm_id": number, "description": ""}),
        ("POST", "/batch_jobs", {"backend_type_id": number}),
        ("POST", "/jobs", {"file_id": number, "batch_job_id": number, "number_of_shots": number}),
        ("PATCH", f"/jobs/{number}", {"status": "cancelled"}),
        ("PATCH", f"/batch_jobs/{number}/enqueue", {}),
        ("DELETE", f"/projects/{number}", {}),
    ]
    for method, path, body in bodies:
        answer = ask(platform, method, path, json=body)
        assert answer.status_code in {201, 404, 422}, (path, answer.text)
        if answer.status_code == 201:
            assert number < 2**63
            ask(platform, "DELETE", f"/projects/{answer.json()['id']}")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/projects", b"", 422),
        ("POST", "/projects", b"[" * 100_000, 422),
        ("POST", "/projects", b'{"owner_id": 1, "name": "\xff", "description": ""}', 422),
        ("POST", "/projects", b'{"owner_id": "1", "name": "x", "description": ""}', 422),
        ("POST", "/projects", b'{"owner_id": 1, "name": "' + b"x" * 256 + b'", "description": ""}', 422),
        ("POST", "/files", b" " * (5 << 20), 422),
        ("POST", "/algorithms", b'{"project_id": 1e9, "type": "quantum", "shared": "team", "name": ""}', 422),
        ("POST", "/batch_jobs", b'{"backend_type_id": 1}', 404),
        ("POST", "/jobs", b'{"file_id": 1, "batch_job_id": 1, "number_of_shots": 0}', 422),
        ("POST", "/jobs", b'{"file_id": 999999, "batch_job_id": 999999}', 404),
        ("PATCH", "/jobs/999999", b'{"status": "completed"}', 422),
        ("PATCH", "/jobs/999999", b'{"status": "cancelled"}', 404),
        ("GET", "/jobs/x", None, 422),
        ("GET", "/jobs/99999999999999999999", None, 422),
        ("GET", "/results/job/999999", None, 404),
        ("GET", "/final_results/job/999999", None, 404),
        ("GET", "/backend_types/1", None, 404),
        ("GET", "/jobs?page=x", None, 422),
        ("POST", "/oidc/device", b"", 400),
    ],
)
def test_odd_requests_are_answered_with_the_right_status(
    platform: Platform, method: str, path: str, body: bytes | None, status: int
) -> None:
    answer = ask(platform, method, path, data=body)
    assert answer.status_code == status, answer.text
    assert "error_description" in answer.json() or answer.json()["detail"]


def test_only_the_list_of_backends_needs_no_token(platform: Platform) -> None:
    platform.runner.reason = "a secret of the center's"
    for path in ("/projects", "/jobs", "/members", "/languages", "/backend_types/1"):
        assert ask(platform, "GET", path, token="another").status_code == 401
    answer = ask(platform, "GET", "/backend_types/", token="another")
    assert answer.status_code == 200
    assert "secret" not in answer.text


def test_a_login_is_told_where_it_would_be_by_the_configuration_alone(platform: Platform) -> None:
    foreign = {"Host": "evil.example.org", "X-Forwarded-Host": "evil.example.org", "Forwarded": "host=evil"}
    for path in ("/auth_config", "/oidc/.well-known/openid-configuration"):
        answer = requests.get(platform.url + path, headers=foreign, timeout=60)
        assert answer.status_code == 200
        assert "evil" not in answer.text
    config = ask(platform, "GET", "/auth_config").json()
    assert config["well_known_endpoint"] == f"{platform.url}/oidc/.well-known/openid-configuration"
    known = requests.get(config["well_known_endpoint"], timeout=60).json()
    assert known["token_endpoint"] == f"{platform.url}/oidc/token"
