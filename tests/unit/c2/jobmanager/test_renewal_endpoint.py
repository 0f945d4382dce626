"""A center renews its token by the job manager, which passes it on to who has the keys."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import requests
from starlette.types import ASGIApp

from qslurm.c2.jobmanager.renewal_endpoint import AT_A_TIME
from qslurm.c2.jobmanager.rest_api import make_app
from qslurm.c2.tokens.keys import KeyHolder
from qslurm.c2.tokens.renewal_service import RenewalService
from qslurm.c2.tokens.renewal_terms import RenewalTerms, write_terms
from qslurm.c2.tokens.renewals import BURST, Renewals
from qslurm.tokens.claims import inspect
from tests.unit.c2.jobmanager.conftest import Manager, Switch
from tests.unit.c2.tokens.serving import serving


@pytest.fixture(scope="module")
def _keys(_made_keys):
    """Keys that are read once."""
    return KeyHolder(_made_keys)


@pytest.fixture
def service(home: Path, manager: Manager, served: tuple[Switch, str], _keys: KeyHolder) -> Iterator[str]:
    """The renewal service behind the job manager; its socket."""
    path = str(home / "tokens.sock")
    config = msgspec.structs.replace(manager.config.tokens, socket=path, clients=())
    write_terms(config, "snellius", RenewalTerms(int(time.time()) + 86400 * 40))
    app: ASGIApp = make_app(msgspec.structs.replace(manager.config, tokens=config))
    served[0].app = app
    answers = RenewalService(config, Renewals(config, user_prefix="center_", masters=[], keys=_keys))
    with serving(answers, path):
        yield path


def post(manager: Manager, token: str, data: bytes = b"") -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return manager.http.post(f"{manager.url}/v1/token", headers=headers, data=data, timeout=60)


def test_a_center_asks_whether_and_gets_a_fresh_one(manager: Manager, service: str) -> None:
    looked = manager.get("/v1/token").json()
    assert set(looked) == {"center", "expires", "renewable_until"}
    assert looked["expires"] == inspect(manager.token()).expires
    answer = post(manager, manager.token(), b"x" * 100_000)
    given = answer.json()
    claims = inspect(given["token"])
    assert (claims.user, claims.expires) == ("center_snellius", given["expires"])
    assert given["expires"] > looked["expires"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert manager.get("/v1/jobs", given["token"]).status_code == 200


def test_refusals_have_the_right_status_and_no_token_in_them(manager: Manager, service: str) -> None:
    lumi = post(manager, manager.token("lumi"))
    assert (lumi.status_code, lumi.json()["error"]["type"]) == (403, "permission")
    assert post(manager, "a.b.c").status_code == 401
    assert manager.http.post(f"{manager.url}/v1/token", timeout=60).status_code == 401
    answers = [post(manager, manager.token()) for _ in range(BURST + 1)]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert "token" not in answers[-1].json()
    for answer in (lumi, answers[-1]):
        assert manager.token().split(".")[2] not in answer.text


def test_a_service_that_hangs_keeps_nobody_elses_threads(
    manager: Manager, home: Path, served: tuple[Switch, str]
) -> None:
    path = str(home / "hangs.sock")
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(AT_A_TIME) as threads:
        listener.bind(path)
        listener.listen(AT_A_TIME + 1)
        listener.settimeout(60)
        config = msgspec.structs.replace(manager.config.tokens, socket=path)
        served[0].app = make_app(msgspec.structs.replace(manager.config, tokens=config))
        token = manager.token()
        headers = {"Authorization": f"Bearer {token}"}
        waiting = [
            threads.submit(requests.get, f"{manager.url}/v1/token", headers=headers, timeout=60)
            for _ in range(AT_A_TIME)
        ]
        taken = [listener.accept()[0] for _ in waiting]  # each of them waits for an answer
        assert (answer := post(manager, token)).status_code == 503
        assert "busy" in answer.text
        assert manager.get("/v1/jobs").status_code == 200
        for connection in taken:
            connection.close()
        assert {one.result().status_code for one in waiting} == {503}


def test_without_a_service_there_is_nobody_to_ask(manager: Manager, served: tuple[Switch, str]) -> None:
    answer = post(manager, manager.token())
    assert (answer.status_code, "does not renew" in answer.text) == (403, True)
    config = msgspec.structs.replace(manager.config.tokens, socket="/nonexistent/tokens.sock")
    served[0].app = make_app(msgspec.structs.replace(manager.config, tokens=config))
    assert post(manager, manager.token()).status_code == 503
