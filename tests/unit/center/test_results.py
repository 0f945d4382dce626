"""The client of the job manager: where its token goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import responses

from qslurm.center.results import JobManagerClient
from qslurm.errors import ConfigError
from qslurm.tokens.secret import Secret

URL = "http://127.0.0.1:8042"


@pytest.fixture
def client() -> JobManagerClient:
    return JobManagerClient(URL, Secret("a.b.c"))


@responses.activate
def test_the_token_is_the_configured_one_whatever_a_netrc_says(
    client: JobManagerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    responses.get(f"{URL}/v1/jobs/1", json={"job_id": 1})
    client.job(1)
    assert responses.calls[0].request.headers["Authorization"] == "Bearer a.b.c"


def test_no_proxy_of_the_environment_sees_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with responses.RequestsMock() as mock:
        mock.get(f"{URL}/v1/jobs/1", json={"job_id": 1})
        JobManagerClient(URL, Secret("a.b.c")).job(1)
        assert not mock.calls[0].request.req_kwargs["proxies"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("url", ["ftp://x", "http://user:secret@127.0.0.1:1", "junk"])
def test_a_url_that_is_none_or_holds_a_password_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        JobManagerClient(url, Secret("a.b.c"))
    assert "secret" not in str(caught.value)
