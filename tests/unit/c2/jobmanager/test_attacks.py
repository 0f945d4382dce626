"""What one user does to the job manager changes nothing for a second center: a real process, seen from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from urllib3 import Retry

from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.c2.jobmanager.compute_api.api_records import ApiRecords
from qslurm.c2.store import statements
from qslurm.c2.store.store import Store
from qslurm.c2.tokens.issue import issue_token
from tests.unit.c2.dispatcher.running import Running

LONG = pytest.mark.slurm  # it needs none, but takes as long as if it did

MB = 1 << 20
NESTED = '{"a": [' + ",".join(["[]"] * 1_540_000) + "]}"
"""4.6 MB of text, and 100 MB when it is parsed."""

_SERVE = (
    "import sys; from qslurm.c2.config.file import load_c2_config\n"
    "from qslurm.c2.jobmanager.http_service import serve\n"
    "serve(load_c2_config(sys.argv[1]))"
)


class JobManager:
    """The process, its store, and centers that ask it."""

    def __init__(self, folder: Path, keys: TokensConfig, running: Running) -> None:
        self.keys, self._task = keys, 0
        self.store = Store(str(folder / "store.db"))
        self.records = folder / "records.db"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = folder / "c2.toml"
        config.write_text(
            f"[dispatcher]\nstore = '{folder}/store.db'\nsocket = '{running.config.socket}'\n"
            f"[tokens]\njwks = '{keys.jwks}'\n"
            f"[jobmanager]\nlisten = '127.0.0.1:{self.port}'\nlogs = '{folder}/logs'\ncompute = '{self.records}'\n"
        )
        self.said = (folder / "stderr").open("w+")
        self.process = subprocess.Popen([sys.executable, "-c", _SERVE, str(config)], stderr=self.said)
        self.http = requests.Session()
        retry = Retry(total=None, connect=200, backoff_factor=0.05, backoff_max=0.2)
        self.http.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
        self.tokens = {name: issue_token(keys, name, "1h").token.reveal() for name in ("snellius", "lumi")}
        assert self.get("/healthz").ok

    def close(self) -> None:
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0
        self.said.close()
        self.store.close()

    def get(self, path: str, center: str = "lumi", **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.tokens[center]}"}
        return self.http.get(self.url + path, headers=headers, timeout=60, **options)

    def post(self, path: str, body: object, center: str = "snellius") -> requests.Response:
        headers = {"Authorization": f"Bearer {self.tokens[center]}"}
        return requests.post(f"{self.url}/quantum-inspire{path}", json=body, headers=headers, timeout=120)

    def raw(self, head: str, *, center: str = "") -> socket.socket:
        link = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        token = f"Authorization: Bearer {self.tokens[center]}\r\n" if center else ""
        link.sendall(f"{head} HTTP/1.1\r\nHost: x\r\n{token}".encode())
        return link

    def peak(self) -> int:
        """The most memory that the process has had, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024

    def forget_peak(self) -> int:
        """Begin to measure anew; what it has now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.peak()

    def put_result(self, job_id: int, result: str, reason: str = "") -> None:
        self._task += 1
        task = {
            **dict.fromkeys(statements.TASK_COLUMNS, ""),
            "id": self._task,
            "center": "snellius",
            "job_id": job_id,
            "restart": 0,
            "kind": "hybrid",
            "uid": 1,
            "state": "finished",
            "admitted_at": 1.0,
            "started_at": 2.0,
            "finished_at": 3.0,
            "envelope": None,
            "exit_code": None,
            "final_result": result,
            "reason": reason,
        }
        assert self.store.commit([statements.insert_task(task)]) == ""

    def lines(self) -> list[str]:
        self.said.flush()
        return Path(self.said.name).read_text().splitlines()


@pytest.fixture(scope="module")
def attacked(
    tmp_path_factory: pytest.TempPathFactory, _made_keys: TokensConfig, shared: Running
) -> Iterator[JobManager]:
    manager = JobManager(tmp_path_factory.mktemp("attacked"), _made_keys, shared)
    yield manager
    manager.close()


@LONG
def test_large_results_cost_what_their_text_costs_and_lists_nothing(attacked: JobManager) -> None:
    for job_id in range(100, 108):
        attacked.put_result(job_id, NESTED, reason="x" * 3_000_000)
    before = attacked.forget_peak()
    for path in ("/v1/jobs?limit=1000", "/v1/usage", "/v1/jobs/100"):
        answer = attacked.get(path, "snellius")
        assert answer.ok
        assert len(answer.content) < 100_000
    assert attacked.peak() - before < 16 * MB
    answer = attacked.get("/v1/jobs/100/results", "snellius")
    assert (answer.ok, len(answer.content) > len(NESTED)) == (True, True)
    many = attacked.get("/v1/results?jobs=" + ",".join(map(str, range(100, 108))), "snellius")
    assert many.content.count(b'"job_id":') == 2  # as many as go into an answer
    assert attacked.peak() - before < 64 * MB


def test_who_takes_no_answer_holds_little(attacked: JobManager) -> None:
    attacked.put_result(200, NESTED)
    before = attacked.forget_peak()
    with ExitStack() as links:
        for _ in range(60):
            link = links.enter_context(attacked.raw("GET /v1/jobs/200/results", center="snellius"))
            link.sendall(b"\r\n")
        for _ in range(20):
            assert attacked.get("/v1/jobs").ok
    assert attacked.peak() - before < 256 * MB


SLOW = "POST /quantum-inspire/projects"


def slow_bodies(
    attacked: JobManager, links: ExitStack, many: int, *, center: str = ""
) -> list[socket.socket]:
    """Connections whose requests have been read, but for a body that does not come.

    Who comes while more than connection.MOST_IDLE have said nothing yet sends the first of them away: so a few come
    at a time, and are read before somebody is who comes later.
    """
    slow = []
    for number in range(1, many + 1):
        link = links.enter_context(attacked.raw(SLOW, center=center))
        link.sendall(b"Content-Length: 1000000\r\n\r\n{")
        slow.append(link)
        if number % 50 == 0:
            assert requests.get(f"{attacked.url}/healthz", timeout=60).ok
    return slow


def test_slow_bodies_without_a_token_are_answered_before_they_come(attacked: JobManager) -> None:
    with ExitStack() as links:
        slow = slow_bodies(attacked, links, 300)
        assert attacked.get("/v1/jobs").ok
        assert attacked.get("/quantum-inspire/projects").ok
        assert slow[-1].recv(64).startswith(b"HTTP/1.1 401")


def test_slow_bodies_with_a_token_take_their_own_centers_turns(attacked: JobManager) -> None:
    with ExitStack() as links:
        slow = slow_bodies(attacked, links, 200, center="snellius")
        assert slow[-1].recv(64).startswith(b"HTTP/1.1 503")  # more than 128 are under way
        assert attacked.get("/v1/jobs").ok
        assert attacked.get("/quantum-inspire/projects").ok


def test_a_body_has_a_limit(attacked: JobManager) -> None:
    with attacked.raw(SLOW, center="snellius") as link:
        link.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):  # 5 MiB, and no end
            link.sendall(b"40000\r\n" + b" " * 0x40000 + b"\r\n")
        assert link.recv(64).startswith(b"HTTP/1.1 422")


def test_who_goes_away_in_the_middle_is_no_news(attacked: JobManager) -> None:
    before = len(attacked.lines())
    for _ in range(50):
        with attacked.raw(SLOW, center="snellius") as link:
            link.sendall(b"Content-Length: 1000\r\n\r\n{")
    assert attacked.get("/v1/jobs", "snellius").ok
    assert len(attacked.lines()) == before


@LONG
def test_a_list_of_files_reads_no_more_than_its_page(attacked: JobManager) -> None:
    records, text = ApiRecords(attacked.records), "x" * (4 * MB - 1000)
    project = attacked.post("/projects", {"owner_id": 1, "name": "p", "description": ""}).json()["id"]
    algorithm = {"project_id": project, "type": "quantum", "shared": "team", "name": "a"}
    number = attacked.post("/algorithms", algorithm).json()["id"]
    commit = attacked.post("/commits", {"algorithm_id": number, "description": ""}).json()["id"]
    fields = {"commit_id": commit, "language_id": 1, "compile_stage": "none", "generated": False, "name": "x"}
    for _ in range(50):
        records.put("snellius", "file", {**fields, "compile_properties": {}}, text)
    records.close()
    before = attacked.forget_peak()
    for query in ("size=1", "size=1&page=50", "size=1&sort_by=-id", "size=1&name=nobody"):
        assert attacked.get(f"/quantum-inspire/files?{query}", "snellius").ok
    assert attacked.peak() - before < 48 * MB
    page = attacked.get("/quantum-inspire/files?size=100", "snellius").json()
    assert (page["size"], len(page["items"]), page["total"], page["pages"]) == (4, 4, 50, 13)
    assert attacked.peak() - before < 128 * MB


@LONG
def test_a_large_circuit_is_read_elsewhere_and_not_for_long(attacked: JobManager) -> None:
    circuit = "version 3.0\nqubit[2] q\nbit[2] b\n" + "H q[0]\n" * 480_000 + "b = measure q\n"
    project = attacked.post("/projects", {"owner_id": 1, "name": "p", "description": ""}).json()["id"]
    algorithm = {"project_id": project, "type": "quantum", "shared": "team", "name": "a"}
    number = attacked.post("/algorithms", algorithm).json()["id"]
    commit = attacked.post("/commits", {"algorithm_id": number, "description": ""}).json()["id"]
    file = {"commit_id": commit, "content": circuit, "language_id": 1, "compile_stage": "none"}
    file_id = attacked.post("/files", {**file, "compile_properties": {}}).json()["id"]
    (backend, *_) = attacked.get("/quantum-inspire/backend_types/").json()["items"]
    batch = attacked.post("/batch_jobs", {"backend_type_id": backend["id"]}).json()["id"]
    before, used = attacked.forget_peak(), cpu_s(attacked.process.pid)
    with ThreadPoolExecutor(2) as threads:
        job = {"file_id": file_id, "batch_job_id": batch, "number_of_shots": 1}
        asked = [threads.submit(attacked.post, "/jobs", job) for _ in range(2)]
        while not all(one.done() for one in asked):
            assert attacked.get("/v1/jobs").ok
    assert all(one.result().status_code in {201, 422} for one in asked)
    assert attacked.peak() - before < 96 * MB
    assert cpu_s(attacked.process.pid) - used < 20  # reading it once took 60


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_what_is_no_request_fills_no_log(attacked: JobManager) -> None:
    before = len(attacked.lines())
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", attacked.port), timeout=60) as link:
            link.sendall(b"\x16\x03\x01 rubbish\r\n\r\n")
            assert link.recv(1) in {b"H", b""}
    assert len(attacked.lines()) - before <= 20
    assert attacked.get("/v1/jobs").ok


@LONG
def test_nested_properties_are_never_parsed_at_large(attacked: JobManager) -> None:
    before = attacked.forget_peak()
    properties = '{"a": [' + ",".join(["[]"] * 1_000_000) + "]}"
    body = (
        '{"commit_id": 1, "content": "", "language_id": 1, "compile_stage": "none", "compile_properties": '
        + properties
        + "}"
    )
    headers = {"Authorization": f"Bearer {attacked.tokens['snellius']}"}

    def send(_: int) -> int:
        url = f"{attacked.url}/quantum-inspire/files"
        return requests.post(url, data=body, headers=headers, timeout=60).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(send, range(16))) == {422}
    assert attacked.peak() - before < 128 * MB


def test_json_of_results_is_what_it_was(attacked: JobManager) -> None:
    attacked.put_result(300, json.dumps({"energy": -1.8, "ü": ["\u2603", None, True, 1e-30]}))
    found = attacked.get("/v1/jobs/300/results", "snellius").json()["final_result"]
    assert found == {"energy": -1.8, "ü": ["\u2603", None, True, 1e-30]}
