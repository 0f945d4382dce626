"""A job manager that really listens, with a store, keys and logs of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from qslurm.c2.config.dispatcher_section import DispatcherConfig
from qslurm.c2.config.file import C2Config
from qslurm.c2.config.jobmanager_section import JobManagerConfig
from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.c2.jobmanager.http_connection import LimitedHttpProtocol
from qslurm.c2.jobmanager.rest_api import make_app
from qslurm.c2.store import statements
from qslurm.c2.store.store import Store
from qslurm.c2.tokens.issue import issue_token

_tokens: dict[str, str] = {}
"""Centers' tokens: every test has the same keys."""


class Manager:
    """The service, and what a test does beside it."""

    def __init__(self, config: C2Config, url: str, switch: Switch) -> None:
        self.config = config
        self._switch = switch
        self.url = url
        self.store = Store(config.dispatcher.store)
        self.http = requests.Session()
        self._task = 0

    def token(self, center: str = "snellius") -> str:
        if center not in _tokens:  # a key is checked when it is read, which takes longer than most tests
            _tokens[center] = issue_token(self.config.tokens, center, "1h").token.reveal()
        return _tokens[center]

    def get(self, path: str, token: str | None = None, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token() if token is None else token}"}
        return self.http.get(self.url + path, headers=headers, timeout=20, **options)

    def serve(self, config: C2Config, **options: Any) -> None:
        """Be configured so from now on."""
        self._switch.app = make_app(config, **options)

    def insert_task(self, job_id: int, **values: Any) -> int:
        self._task += 1
        task = {
            **dict.fromkeys(statements.TASK_COLUMNS, ""),
            "id": self._task,
            "center": "snellius",
            "job_id": job_id,
            "restart": 0,
            "kind": "circuit",
            "backend": "qx",
            "uid": 6811,
            "state": "finished",
            "admitted_at": 1.0,
            "envelope": None,
            "started_at": 2.0,
            "finished_at": 3.0,
            "exit_code": None,
            "final_result": None,
            **values,
        }
        assert self.store.commit([statements.insert_task(task)]) == ""
        return self._task

    def insert_execution(self, task: int, counts: str, shots: int, raw_data: str | None = None) -> None:
        sql = (
            "INSERT INTO executions "
            "(task, seq, circuit_sha256, shots_requested, shots_done, counts, raw_data, seconds, state) "
            "VALUES (?, 0, '', ?, ?, ?, ?, 0.5, 'done')"
        )
        assert self.store.commit([(sql, (task, shots, shots, counts, raw_data))]) == ""

    def log(self, job_id: int, user: str = "center_snellius") -> Path:
        folder = Path(self.config.jobmanager.logs) / user
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{job_id}.out"


class Switch:
    """An application that can be exchanged while a server serves it: starting and stopping one takes its time."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)


@pytest.fixture
def keys(key_pairs: Callable[..., TokensConfig]) -> TokensConfig:
    return key_pairs("snellius", "lumi")


@pytest.fixture
def manager(tmp_path: Path, keys: TokensConfig, served: tuple[Switch, str]) -> Iterator[Manager]:
    config = C2Config(
        dispatcher=DispatcherConfig(socket=str(tmp_path / "none.sock"), store=str(tmp_path / "store.db")),
        jobmanager=JobManagerConfig(logs=str(tmp_path / "logs")),
        tokens=keys,
    )
    switch, url = served
    switch.app = make_app(config)
    found = Manager(config, url, switch)
    yield found
    found.http.close()
    found.store.close()


@pytest.fixture(scope="session")
def served() -> Iterator[tuple[Switch, str]]:
    """A server with no application yet, and its URL."""
    switch = Switch()
    options = {
        "port": 0,
        "http": LimitedHttpProtocol,
        "lifespan": "off",
        "log_level": "critical",
        "server_header": False,
    }
    server = uvicorn.Server(uvicorn.Config(switch, host="127.0.0.1", **options))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started and thread.is_alive() and time.monotonic() < until:
        thread.join(0.01)
    assert server.started
    yield switch, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(60)
    assert not thread.is_alive()
