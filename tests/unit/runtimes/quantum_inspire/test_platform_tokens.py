from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qslurm.errors import ConfigError
from qslurm.runtimes.quantum_inspire.platform_tokens import LoginError, Tokens, refuse_clear_text
from qslurm.runtimes.quantum_inspire.quantum_inspire_runtime import QuantumInspireRuntime
from tests.unit.runtimes.quantum_inspire.platform import REFRESH, TOKEN, Platform

OLD = {"generated_at": 0.0}


def test_a_valid_token_is_used_as_it_is(platform: Platform, credentials: Path) -> None:
    tokens = Tokens(str(credentials), 30)
    assert tokens.refresh().access_token == TOKEN
    assert (tokens.host, tokens.member) == (platform.url, 7)
    assert platform.requests == []


def test_an_expired_token_is_renewed_and_kept_for_nobody_else_to_read(
    platform: Platform, credentials: Path
) -> None:
    platform.credentials(credentials, tokens=OLD)
    tokens = Tokens(str(credentials), 30)
    assert tokens.refresh().access_token == tokens.refresh().access_token == f"{TOKEN}-1"
    assert [form["refresh_token"] for form in platform.renewals] == [REFRESH]
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    kept = json.loads(credentials.read_text())["auths"][platform.url]
    assert (kept["tokens"]["refresh_token"], kept["team_member_id"]) == (f"{REFRESH}-1", 7)
    assert Tokens(str(credentials), 30).refresh().access_token == f"{TOKEN}-1"


def test_two_that_find_it_expired_renew_it_once(platform: Platform, credentials: Path) -> None:
    platform.credentials(credentials, tokens=OLD)
    both = [Tokens(str(credentials), 30) for _ in range(2)]
    threads = [threading.Thread(target=one.refresh) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(platform.renewals) == 1
    assert {one.refresh().access_token for one in both} == {f"{TOKEN}-1"}


def test_a_provider_that_keeps_refresh_tokens_need_not_send_one(
    platform: Platform, credentials: Path
) -> None:
    def fetch(url: str, form: dict[str, str] | None, timeout_s: float) -> dict[str, object]:
        return {"token_endpoint": url} if form is None else {"access_token": "fresh", "expires_in": 60}

    platform.credentials(credentials, tokens=OLD)
    token = Tokens(str(credentials), 30, fetch=fetch).refresh()
    assert (token.access_token, token.refresh_token) == ("fresh", REFRESH)


def test_a_login_that_is_over_says_what_to_do(
    platform: Platform, credentials: Path, make: Callable[..., QuantumInspireRuntime]
) -> None:
    platform.credentials(credentials, tokens=OLD)
    platform.refuse_renewal = True
    runtime = make()
    runtime.attend()  # the list of backend types needs no token
    health = runtime.attend()
    assert health.state == "offline"
    assert "refused to renew the token (HTTP 400): log in again with `qi login`" in health.reason
    assert REFRESH not in health.reason


@pytest.mark.parametrize("what", ["503", "rubbish", "cut", "huge"])
@pytest.mark.parametrize("request_", ["GET /oidc/.*", "POST /oidc/token"])
def test_an_identity_provider_in_trouble_is_asked_again_next_time(
    platform: Platform, credentials: Path, request_: str, what: str
) -> None:
    platform.credentials(credentials, tokens=OLD)
    tokens = Tokens(str(credentials), 30)
    platform.goes_wrong(request_, what)
    with pytest.raises(LoginError) as caught:
        tokens.refresh()
    assert REFRESH not in str(caught.value)
    if what != "cut":
        assert tokens.refresh().access_token.startswith(TOKEN)


def test_a_file_that_is_replaced_is_read_again(platform: Platform, credentials: Path) -> None:
    tokens = Tokens(str(credentials), 30)
    credentials.unlink()
    platform.credentials(credentials, tokens={"access_token": "another"})
    assert tokens.refresh().access_token == "another"
    credentials.unlink()
    with pytest.raises(LoginError, match=r"Cannot read .*: No such file"):
        tokens.refresh()


def test_a_renewed_token_that_cannot_be_kept_is_used_all_the_same(
    platform: Platform, credentials: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from qslurm.runtimes.quantum_inspire import platform_tokens as quantum_inspire_tokens

    def fails(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(quantum_inspire_tokens, "write_atomically", fails)
    platform.credentials(credentials, tokens=OLD)
    tokens = Tokens(str(credentials), 30)
    assert tokens.refresh().access_token == tokens.refresh().access_token == f"{TOKEN}-1"
    assert "cannot save" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(credentials: Path, mode: int) -> None:
    credentials.chmod(mode)
    with pytest.raises(ConfigError, match=rf"are readable by others \(mode {mode:o}\)"):
        Tokens(str(credentials), 30)


def test_what_is_no_file_of_ones_own_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(ConfigError, match="not a regular file owned by the dispatcher's user"):
        Tokens(str(pipe), 30)
    with pytest.raises(ConfigError, match="Cannot read"):
        Tokens(str(tmp_path / "none"), 30)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"default_host": "https://a", "auths": {}}', "x" * 300_000]
)
def test_a_file_that_makes_no_sense_is_refused_without_quoting_it(credentials: Path, text: str) -> None:
    credentials.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Tokens(str(credentials), 30)
    assert caught.value.__cause__ is None


def test_a_file_without_a_token_is_refused(platform: Platform, credentials: Path) -> None:
    document = json.loads(credentials.read_text())
    document["auths"][platform.url]["tokens"] = None
    credentials.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="No token for"):
        Tokens(str(credentials), 30)


@pytest.mark.parametrize("url", ["http://api.quantum-inspire.com", "ftp://localhost", "http://10.0.0.1", "x"])
def test_tokens_do_not_travel_in_the_clear(url: str) -> None:
    with pytest.raises(ConfigError, match="sent unencrypted"):
        refuse_clear_text(url)


@pytest.mark.parametrize("url", ["https://api.quantum-inspire.com", "http://[::1]:80/x", "http://localhost"])
def test_https_and_this_host_are_fine(url: str) -> None:
    refuse_clear_text(url)


def test_a_lock_that_somebody_holds_is_not_waited_for_forever(platform: Platform, credentials: Path) -> None:
    import fcntl

    platform.credentials(credentials, tokens=OLD)
    with credentials.with_name(credentials.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LoginError, match="is locked by another process"):
            Tokens(str(credentials), 0.2).refresh()
    assert Tokens(str(credentials), 30).refresh().access_token == f"{TOKEN}-1"
    assert time.time() > 0
