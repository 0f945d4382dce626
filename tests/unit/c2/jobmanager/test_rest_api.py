"""What a center gets from the job manager, and what it never gets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from qslurm.c2.config.dispatcher_section import SessionsConfig
from qslurm.c2.jobmanager.documents import reserved
from qslurm.c2.scheduling.reservations import Reservation
from qslurm.c2.tokens.keys import remove_key
from qslurm.protocol.tls_certificate import ensure_certificate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.c2.jobmanager.conftest import Manager


def error(response: object) -> dict[str, object]:
    found = response.json()["error"]  # type: ignore[attr-defined]
    assert isinstance(found, dict)
    assert set(found) == {"code", "type", "message", "hint"}
    return found


def test_a_circuit_job_gives_its_counts(manager: Manager) -> None:
    task = manager.insert_task(7, slurm_state="COMPLETED", name="bell", origin="slurm:snellius:4711:alice")
    manager.insert_execution(task, '{"00": 51, "11": 49}', 100)
    assert manager.get("/v1/jobs/7/results").json() == {
        "job_id": 7,
        "key": "",
        "kind": "circuit",
        "name": "bell",
        "state": "finished",
        "reason": "",
        "reason_code": "",
        "counts": {"00": 51, "11": 49},
        "shots": 100,
        "raw_data": None,
    }
    shown = manager.get("/v1/jobs/7").json()
    assert (shown["center"], shown["origin"], shown["slurm_state"]) == (
        "snellius",
        "slurm:snellius:4711:alice",
        "COMPLETED",
    )
    assert (shown["executions"], shown["shots"], shown["qpu_seconds"]) == (1, 100, 0.5)


def test_raw_data_is_given_when_it_was_asked_for(manager: Manager) -> None:
    manager.insert_execution(manager.insert_task(7), '{"0": 1, "1": 1}', 2, raw_data='["0", "1"]')
    assert manager.get("/v1/jobs/7/results").json()["raw_data"] == ["0", "1"]


def test_a_hybrid_job_gives_its_final_result(manager: Manager) -> None:
    task = manager.insert_task(7, kind="hybrid", final_result=json.dumps({"energy": -1.857}))
    manager.insert_execution(task, '{"0": 10}', 10)
    found = manager.get("/v1/jobs/7/results").json()
    assert (found["final_result"], found["executions"], found["shots"]) == ({"energy": -1.857}, 1, 10)


def test_a_script_job_gives_its_state(manager: Manager) -> None:
    manager.insert_task(7, kind="script")
    assert manager.get("/v1/jobs/7/results").json() == {
        "job_id": 7,
        "key": "",
        "kind": "script",
        "name": "",
        "state": "finished",
        "reason": "",
        "reason_code": "",
    }


def test_a_failed_job_gives_its_reason_and_what_there_is(manager: Manager) -> None:
    manager.insert_task(7, kind="hybrid", state="failed", reason="line 3: no such gate")
    response = manager.get("/v1/jobs/7/results")
    assert response.status_code == 200
    assert response.json()["reason"] == "line 3: no such gate"


def test_many_results_come_at_once_and_who_has_none_says_why(manager: Manager) -> None:
    for job_id in (7, 8, 9):
        manager.insert_execution(manager.insert_task(job_id), f'{{"0": {job_id}}}', job_id)
    manager.insert_execution(manager.insert_task(9), '{"1": 9}', 9)  # its id was given again
    manager.insert_task(10, state="running")
    manager.insert_task(11, center="lumi")
    found = manager.get("/v1/results?jobs=9,7,10,11,12,9").json()["results"]
    assert [(one["job_id"], one.get("counts"), one.get("error", {}).get("type")) for one in found] == [
        (9, {"1": 9}, None),
        (7, {"0": 7}, None),
        (10, None, "not_ready"),
        (11, None, "unknown_job"),
        (12, None, "unknown_job"),
    ]
    assert found[1] == manager.get("/v1/jobs/7/results").json()
    manager.serve(manager.config, most_bytes=1)
    assert [one["job_id"] for one in manager.get("/v1/results?jobs=8,7").json()["results"]] == [8]


@pytest.mark.parametrize("jobs", ["", "x", "7,", "0", "7,-1", ",".join(["7"] * 251), "7,9999999999999"])
def test_what_are_no_job_ids_is_a_sentence(manager: Manager, jobs: str) -> None:
    response = manager.get(f"/v1/results?jobs={jobs}")
    assert response.status_code == 400
    assert "job id" in str(error(response)["message"])


@pytest.mark.parametrize("state", ["admitted", "running", "withdrawn"])
def test_a_job_under_way_has_no_results_yet(manager: Manager, state: str) -> None:
    manager.insert_task(7, state=state)
    response = manager.get("/v1/jobs/7/results")
    assert response.status_code == 409
    assert error(response)["type"] == "not_ready"


@pytest.mark.parametrize("path", ["", "/results", "/logs"])
def test_another_centers_job_is_answered_like_one_that_does_not_exist(manager: Manager, path: str) -> None:
    manager.insert_task(7)
    manager.log(7).write_text("secret\n")
    foreign = manager.get(f"/v1/jobs/7{path}", token=manager.token("lumi"))
    unknown = manager.get(f"/v1/jobs/8{path}", token=manager.token("lumi"))
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.text == unknown.text.replace("8", "7")
    assert manager.get("/v1/jobs", token=manager.token("lumi")).json() == {"jobs": []}


def test_jobs_are_listed_newest_first_and_bounded(manager: Manager) -> None:
    for job_id in (5, 6, 7):
        manager.insert_task(job_id)
    jobs = manager.get("/v1/jobs?limit=2").json()["jobs"]
    assert [job["job_id"] for job in jobs] == [7, 6]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=-1", "limit=99999", "limit=", "limit=%D9%A3"])
def test_a_nonsense_limit_is_a_sentence(manager: Manager, query: str) -> None:
    response = manager.get(f"/v1/jobs?{query}")
    assert response.status_code == 400
    assert "limit" in str(error(response)["message"])


@pytest.mark.parametrize("job_id", ["x", "0", "-1", "99999999999", "7.5", "%2e%2e", "1" * 500])
def test_a_nonsense_job_id_is_a_sentence(manager: Manager, job_id: str) -> None:
    assert manager.get(f"/v1/jobs/{job_id}").status_code in {400, 404}


def test_the_header_of_slurmrestd_works_too(manager: Manager) -> None:
    headers = {"X-SLURM-USER-TOKEN": manager.token()}
    assert manager.http.get(manager.url + "/v1/jobs", headers=headers, timeout=20).status_code == 200


def test_without_a_token_the_answer_says_how_to_send_it(manager: Manager) -> None:
    response = manager.http.get(manager.url + "/v1/jobs", timeout=20)
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "Authorization" in str(error(response)["hint"])


def test_a_revoked_center_is_out_at_once_and_the_other_is_not(manager: Manager) -> None:
    token = manager.token("lumi")
    assert manager.get("/v1/jobs", token=token).status_code == 200
    remove_key(manager.config.tokens, "lumi")
    assert manager.get("/v1/jobs", token=token).status_code == 401
    assert manager.get("/v1/jobs").status_code == 200


def test_a_silent_dispatcher_is_said_so(manager: Manager) -> None:
    response = manager.get("/v1/backends")
    assert response.status_code == 503
    assert error(response)["type"] == "unreachable"


def test_health_needs_no_token(manager: Manager) -> None:
    assert manager.http.get(manager.url + "/healthz", timeout=20).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/v2", 404), ("POST", "/v1/jobs", 405), ("DELETE", "/v1/jobs/7", 405)],
)
def test_what_there_is_not_is_a_json_error(manager: Manager, method: str, path: str, status: int) -> None:
    response = manager.http.request(method, manager.url + path, timeout=20)
    assert response.status_code == status
    error(response)


def test_answers_are_not_cached_and_name_no_server(manager: Manager) -> None:
    headers = manager.get("/v1/jobs").headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in headers


def test_head_asks_the_same_without_a_body(manager: Manager) -> None:
    headers = {"Authorization": f"Bearer {manager.token()}"}
    response = manager.http.head(manager.url + "/v1/jobs", headers=headers, timeout=20)
    assert (response.status_code, response.content) == (200, b"")


def test_a_log_is_given_in_parts(manager: Manager) -> None:
    manager.log(7).write_text("hällo\n")
    first = manager.get("/v1/jobs/7/logs")
    assert first.headers["Content-Type"].startswith("text/plain")
    assert first.content.decode() == "hällo\n"
    offset = int(first.headers["X-Qslurm-Next-Offset"])
    with manager.log(7).open("a") as file:
        file.write("more\n")
    second = manager.get(f"/v1/jobs/7/logs?offset={offset}")
    assert second.text == "more\n"
    third = manager.get(f"/v1/jobs/7/logs?offset={second.headers['X-Qslurm-Next-Offset']}")
    assert (third.text, third.headers["X-Qslurm-Next-Offset"]) == ("", second.headers["X-Qslurm-Next-Offset"])


def test_a_job_without_a_log_is_404(manager: Manager) -> None:
    assert manager.get("/v1/jobs/7/logs").status_code == 404


def test_usage_adds_up_what_a_centers_jobs_have_used_in_a_time(manager: Manager) -> None:
    for restart, key in ((0, "k"), (1, "k"), (0, "l")):  # one of them was requeued
        task = manager.insert_task(7, restart=restart, key=key, origin="shell:::ann", account="snellius")
        manager.insert_execution(task, "{}", shots=10)
    manager.insert_execution(manager.insert_task(8, finished_at=900.0, origin="shell:::ann"), "{}", shots=1)
    manager.insert_execution(manager.insert_task(9, center="lumi"), "{}", shots=1)
    assert manager.get("/v1/usage?until=100").json() == {
        "usage": [
            {
                "origin": "shell:::ann",
                "account": "snellius",
                "backend": "qx",
                "jobs": 2,
                "executions": 3,
                "shots": 30,
                "qpu_seconds": 1.5,
            }
        ]
    }
    assert manager.get("/v1/usage?since=901").json() == {"usage": []}
    assert manager.get("/v1/usage?since=soon").status_code == 400


def test_a_window_that_is_another_centers_says_no_more_than_when() -> None:
    windows = [
        Reservation(id=2, backend="qx", begins=5.0, ends=6.0, center="snellius", reason="course"),
        Reservation(id=1, backend="qx", begins=1.0, ends=2.0, center="lumi", reason="secret"),
        Reservation(id=3, backend="spin2", begins=1.0, ends=2.0, center="snellius"),
    ]
    assert reserved(windows, "qx", "snellius") == [
        {"begins": 1.0, "ends": 2.0, "yours": False},
        {"begins": 5.0, "ends": 6.0, "yours": True, "reason": "course"},
    ]


def test_a_center_is_told_where_sessions_are_entered(manager: Manager, tmp_path: Path) -> None:
    assert manager.get("/v1/sessions").json() == {"address": "", "certificate": ""}
    assert manager.get("/v1/sessions", token="none").status_code == 401
    key = tmp_path / "sessions.key"
    sessions = SessionsConfig(listen="127.0.0.1:8044", address="c2.example.org:8044", key=str(key))
    manager.serve(msgspec.structs.replace(manager.config, sessions=sessions))
    early = manager.get("/v1/sessions")
    assert early.status_code == 400
    assert "The dispatcher creates it" in error(early)["hint"]
    ensure_certificate(key)
    said = manager.get("/v1/sessions").json()
    assert said["address"] == "c2.example.org:8044"
    assert said["certificate"].startswith("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE" not in said["certificate"]


def test_a_session_has_the_result_that_its_loop_gave_it(manager: Manager) -> None:
    manager.insert_task(7, kind="session", final_result='{"energy": -1.1}')
    document = manager.get("/v1/jobs/7/results").json()
    assert (document["kind"], document["final_result"]) == ("session", {"energy": -1.1})


def test_a_key_gives_every_start_of_its_submission_and_of_its_tasks(manager: Manager) -> None:
    manager.insert_task(7, key="k/1", state="withdrawn")
    manager.insert_task(7, key="k/1", restart=1, state="running", finished_at=None)
    manager.insert_task(8, key="k/1#0")
    manager.insert_task(9, key="k/12")
    manager.insert_task(10, key="k/1", center="lumi")
    found = manager.get("/v1/keys/k%2F1").json()["jobs"]
    assert [(job["job_id"], job["restart"], job["state"]) for job in found] == [
        (8, 0, "finished"),
        (7, 1, "running"),
        (7, 0, "withdrawn"),
    ]
    assert [job["key"] for job in manager.get("/v1/keys/k%2F1%230").json()["jobs"]] == ["k/1#0"]
    assert manager.get("/v1/keys/nobodys").json() == {"jobs": []}
    assert error(manager.get("/v1/keys/k%201"))["code"] == 2
