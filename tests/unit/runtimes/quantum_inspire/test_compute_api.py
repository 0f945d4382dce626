"""The Compute API as the official client and others see it; the jobs' own way is in tests/slurm."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from qslurm.c2.jobmanager.compute_api.api_records import ApiRecords, Kind
from qslurm.c2.jobmanager.compute_api.runner import ApiCaller
from qslurm.errors import RefusedError, UncertainError
from qslurm.payload.spec import JobSpec
from qslurm.runtimes.quantum_inspire.platform_link import AwayError, RequestRefusedError
from tests.unit.runtimes.quantum_inspire.official import Official
from tests.unit.runtimes.quantum_inspire.platform import BACKEND, TOKEN, Platform

BELL = "version 3.0; qubit[2] q; bit[2] b; H q[0]; CNOT q[0], q[1]; b = measure q"
HYBRID = "def execute(qi):\n    pass\n\ndef finalize(results):\n    return {}\n"


@pytest.fixture(scope="module")
def shared_official(
    shared_platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Official]:
    official = Official(shared_platform.credentials(tmp_path_factory.mktemp("keys") / "credentials.json"))
    yield official
    official.close()


@pytest.fixture
def official(platform: Platform, shared_official: Official) -> Official:
    del platform
    return shared_official


def ask(platform: Platform, method: str, path: str, **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {options.pop('token', TOKEN)}"}
    return requests.request(method, platform.url + path, headers=headers, timeout=60, **options)


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
    with pytest.raises(AwayError, match="503"):
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


def test_lists_are_filtered_sorted_and_in_pages(official: Official, platform: Platform) -> None:
    jobs = [official.runs(BELL, BACKEND, language="cqasm") for _ in range(3)]
    newest = ask(platform, "GET", "/jobs?sort_by=-id&size=2&status=completed").json()
    assert [one["id"] for one in newest["items"]] == jobs[:0:-1]
    assert (newest["page"], newest["size"]) == (1, 2)
    assert newest["pages"] == -(-newest["total"] // 2)
    assert ask(platform, "GET", f"/jobs?id={jobs[0]}&status=failed").json()["items"] == []
    (last,) = ask(platform, "GET", "/jobs?sort_by=-id&size=1").json()["items"]
    (first,) = ask(platform, "GET", "/jobs?size=1").json()["items"]
    assert first["id"] < jobs[-1] == last["id"]


def test_a_project_is_changed_and_removed_with_what_is_in_it(official: Official, platform: Platform) -> None:
    job = official.runs(BELL, BACKEND, language="cqasm")
    file = official.job(job).file_id
    project = ask(platform, "GET", "/projects?sort_by=-id").json()["items"][0]["id"]
    changed = ask(platform, "PATCH", f"/projects/{project}", json={"starred": True}).json()
    assert (changed["starred"], changed["name"]) == (True, "a project")
    assert ask(platform, "DELETE", f"/projects/{project}").status_code == 204
    gone = (f"/projects/{project}", f"/files/{file}")
    assert [ask(platform, "GET", path).status_code for path in gone] == [404, 404]
    assert official.job(job).status.value == "completed"


def test_what_deletes_by_name_takes_what_was_named_and_nothing_else(platform: Platform) -> None:
    """What `qi projects delete --name` does: it deletes whatever the list has answered."""
    names = ["vqe", "VQE of h2", "100% mine", "a_b", "axb", "h\u00e9lium", "other"]
    for name in names:
        made = ask(
            platform, "POST", "/projects", json={"owner_id": 1, "name": name, "description": f"about {name}"}
        )
        assert made.status_code == 201
    searched = {
        "vqe": ["vqe", "VQE of h2"],
        "VQE OF": ["VQE of h2"],
        "100%": ["100% mine"],
        "a_b": ["a_b"],
        "h\u00e9": ["h\u00e9lium"],
        "about other": ["other"],
        "nobody's": [],
    }
    for text, wanted in searched.items():
        found = ask(platform, "GET", "/projects", params={"search": text, "sort_by": "id"}).json()["items"]
        assert [one["name"] for one in found] == wanted, text
    for name in names:
        (one,) = ask(platform, "GET", "/projects", params={"name": name}).json()["items"]
        assert ask(platform, "DELETE", f"/projects/{one['id']}").status_code == 204
        names = names[1:]
        left = ask(platform, "GET", "/projects", params={"sort_by": "id", "search": "about"}).json()["items"]
        assert [one["name"] for one in left] == names


LISTS = (
    "/projects",
    "/algorithms",
    "/files",
    "/batch_jobs",
    "/jobs",
    "/members",
    "/languages",
    "/backend_types/",
)
SINGLE = (
    "/auth_config",
    "/projects/1",
    "/files/1",
    "/jobs/1",
    "/jobs/1/logs",
    "/results/job/1",
    "/final_results/job/1",
)


@pytest.mark.parametrize("path", LISTS + SINGLE)
def test_a_query_field_that_is_not_implemented_is_refused_and_never_ignored(
    platform: Platform, path: str
) -> None:
    for field in ("searched", "created_on", "latest", "owner_id", "id__in", "", "nam\u00e9"):
        answer = ask(platform, "GET", path, params={field: "x"})
        assert answer.status_code == 422, field
        assert "Unknown query field" in answer.json()["detail"][0]["msg"]
    assert ask(platform, "GET", f"{path}?page=1&page=1").status_code == 422


def test_what_changes_something_takes_no_query(platform: Platform) -> None:
    for method, path in (("DELETE", "/projects/1"), ("PATCH", "/jobs/1"), ("POST", "/projects")):
        assert ask(platform, method, f"{path}?name=x", data=b"{}").status_code == 422


def fields_of_official_lists() -> list[tuple[str, str]]:
    """Each list that the official client's own commands ask for, with the field that they send."""
    sent = {
        "/projects": ("search", "name", "sort_by", "page", "size", "id", "description", "starred"),
        "/jobs": ("status", "sort_by", "page", "size", "id", "file_id", "batch_job_id", "number_of_shots"),
        "/files": ("commit_id", "generated", "page", "size", "id", "name", "language_id"),
        "/batch_jobs": ("id", "page", "size", "backend_type_id"),
        "/algorithms": ("project_id", "search", "name", "type", "shared", "link", "id", "page"),
    }
    return [(path, field) for path, fields in sent.items() for field in fields]


@pytest.mark.parametrize(("path", "field"), fields_of_official_lists())
def test_a_filter_that_is_implemented_filters(
    official: Official, platform: Platform, path: str, field: str
) -> None:
    """It gives what has this value, and nothing for a value that nothing has."""
    if not ask(platform, "GET", f"{path}?size=1").json()["items"]:
        official.runs(BELL, BACKEND, language="cqasm", shots=10)
    texts = {"sort_by": "-id", "page": "1", "size": "2", "search": "no such thing", "status": "failed"}
    one = ask(platform, "GET", f"{path}?sort_by=-id&size=1").json()["items"][0]
    value = texts.get(field, one.get(field))
    if value is None:  # not said: nothing has the value that we ask for
        found = ask(platform, "GET", path, params={field: "7"}).json()["items"]
        assert found == []
        return
    answer = ask(
        platform, "GET", path, params={field: str(value).lower() if value in {True, False} else value}
    )
    assert answer.status_code == 200, answer.text
    items = answer.json()["items"]
    if field in one:
        assert items or field == "status"
        assert all(item[field] == texts.get(field, value) for item in items)
    elif field == "search":
        assert items == []


def test_jobs_are_found_by_a_status_that_only_slurm_knows(official: Official, platform: Platform) -> None:
    platform.runner.hold = "running"
    running = official.runs(BELL, BACKEND, language="cqasm", shots=10)
    planned, _ = official.hands_in(BELL, BACKEND, language="cqasm", shots=10)

    def found(status: str) -> set[int]:
        page = official.asks("JobsApi", "read_jobs_jobs_get", status=status, sort_by="-id", size=100)
        assert {one.status.value for one in page.items} <= {status}
        return {one.id for one in page.items}

    assert running in found("running")
    assert planned in found("planned")
    platform.runner.hold = ""
    assert running in found("completed")
    assert running not in found("running") | found("planned")


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


def test_records_belong_to_their_center_and_outlive_the_process(tmp_path: Path) -> None:
    records = ApiRecords(tmp_path / "records.db")
    mine = records.put("delft", "project", {"name": "x"})
    assert records.get("leiden", "project", mine.id) is None
    assert records.get("delft", "job", mine.id) is None
    records.update("leiden", mine, name="stolen")
    records.delete_project("leiden", mine.id)
    records.close()
    again = ApiRecords(tmp_path / "records.db")
    assert again.page("delft", "project", []) == [mine]
    assert again.put("delft", "project", {}).id > mine.id
    again.close()
    assert (tmp_path / "records.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("limit", [{"MOST": 2}, {"MOST_BYTES": 2 * len('{"name":"x"}')}], ids=str)
def test_a_center_cannot_fill_the_disk_with_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: dict[str, int]
) -> None:
    from qslurm.c2.jobmanager.compute_api import api_records as module

    for name, value in limit.items():
        monkeypatch.setattr(module, name, value)
    records = ApiRecords(tmp_path / "records.db")
    kept = [records.put("delft", kind, {"name": "x"}) for kind in ("project", "batch_job")]
    with pytest.raises(RefusedError, match="Limit reached"):
        records.put("delft", "batch_job", {"name": "x"})
    records.put("leiden", "project", {"name": "x"})
    monkeypatch.setattr(module, "KEEP_S", -60.0)  # from now on all is old
    records.put("delft", "batch_job", {"name": "x"})
    assert records.page("delft", "project", []) == kept[:1]
    assert len(records.page("delft", "batch_job", [])) == 1
    records.close()


def test_records_of_an_earlier_version_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    earlier = sqlite3.connect(path)
    earlier.executescript(
        "CREATE TABLE records (id INTEGER PRIMARY KEY AUTOINCREMENT, center TEXT NOT NULL, kind TEXT NOT NULL,"
        " created REAL NOT NULL, body BLOB NOT NULL) STRICT;"
        "CREATE INDEX records_by_kind ON records (center, kind, id);"
    )
    bodies: list[tuple[Kind, dict[str, Any]]] = [
        ("project", {"name": "x"}),
        ("algorithm", {"project_id": 1}),
        ("commit", {"algorithm_id": 2}),
        ("file", {"commit_id": 3, "content": "version 3.0 // \u00e9\n", "name": None}),
        ("batch_job", {"backend_type_id": 1}),
        ("job", {"batch_job_id": 5, "file_id": 4}),
    ]
    for kind, body in bodies:
        earlier.execute(
            "INSERT INTO records (center, kind, created, body) VALUES ('delft', ?, 1.0, ?)",
            (kind, json.dumps(body).encode()),
        )
    earlier.commit()
    earlier.close()
    for _ in range(2):  # the second time it is up to date
        records = ApiRecords(path)
        file = records.get("delft", "file", 4)
        assert file is not None
        assert (file.fields, records.text(file)) == (
            {"commit_id": 3, "name": None},
            "version 3.0 // \u00e9\n",
        )
        assert [one.id for one in records.inside("delft", "job", 5)] == [6]
        records.close()
    records = ApiRecords(path)
    records.delete_project("delft", 1)
    left = sqlite3.connect(path).execute("SELECT kind FROM records UNION SELECT 'text' FROM contents")
    assert sorted(kind for (kind,) in left) == ["batch_job", "job"]
    records.close()
