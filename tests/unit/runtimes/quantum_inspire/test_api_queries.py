"""The Compute API's lists: filters, order, pages."""

from __future__ import annotations

import pytest

from tests.unit.runtimes.quantum_inspire.official import BELL, Official, ask
from tests.unit.runtimes.quantum_inspire.platform import BACKEND, Platform


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
