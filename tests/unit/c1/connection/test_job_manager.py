"""The client of the job manager: where its token goes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import responses

from qslurm.c1.connection.job_manager import JobManagerClient
from qslurm.errors import ConfigError, InvalidInputError, QslurmError, TokenError, UnreachableError
from qslurm.protocol.nesting import NESTING_LIMIT
from qslurm.slurm.rest.endpoint import Endpoint
from qslurm.slurm.rest.transport import MAX_ANSWER, read_whole
from qslurm.tokens.secret import Secret

URL = "http://127.0.0.1:8042"


@pytest.fixture
def client() -> JobManagerClient:
    return JobManagerClient(Endpoint(URL, Secret("a.b.c")))


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
        JobManagerClient(Endpoint(URL, Secret("a.b.c"))).job(1)
        assert not mock.calls[0].request.req_kwargs["proxies"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("url", ["ftp://x", "http://user:secret@127.0.0.1:1", "junk"])
def test_a_url_that_is_none_or_holds_a_password_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        JobManagerClient(Endpoint(url, Secret("a.b.c")))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (200, UnreachableError, "not a qslurm job manager"),
        (302, UnreachableError, "not a qslurm job manager"),
        (401, TokenError, "C2 refused the token"),
        (403, TokenError, "refused the request"),
        (500, UnreachableError, "failing"),
        (502, UnreachableError, "Try again later"),
    ],
)
@responses.activate
def test_what_only_the_status_explains_is_explained(
    status: int, error: type[QslurmError], said: str, client: JobManagerClient
) -> None:
    responses.get(f"{URL}/v1/jobs/1", body="<html>", status=status)
    with pytest.raises(error, match=said):
        client.job(1)


@responses.activate
@pytest.mark.parametrize("said", [{}, {"jobs": None}, {"jobs": 5}, {"jobs": [1]}])
def test_a_list_that_is_not_there_is_not_an_empty_one(client: JobManagerClient, said: object) -> None:
    """A submission of which C2 says nothing would be sent again."""
    responses.get(f"{URL}/v1/keys/{'k' * 32}", json=said)
    responses.get(f"{URL}/v1/jobs", json=said)
    with pytest.raises(UnreachableError, match="not a qslurm job manager"):
        client.starts("k" * 32)
    with pytest.raises(UnreachableError, match="not a qslurm job manager"):
        client.jobs()


@responses.activate
@pytest.mark.parametrize("said", [{}, {"results": [{"counts": {}}]}, {"results": [{"job_id": "12"}]}])
def test_results_of_which_nobody_knows_whose_they_are_are_none(
    client: JobManagerClient, said: object
) -> None:
    responses.get(f"{URL}/v1/results", json=said)
    with pytest.raises(UnreachableError, match="not a qslurm job manager"):
        client.many_results([12, 13])


@responses.activate
def test_a_document_without_end_within_itself_is_no_bug_of_ours(client: JobManagerClient) -> None:
    responses.get(f"{URL}/v1/jobs/1", body="[" * 100_000)
    with pytest.raises(InvalidInputError, match="C2's answer is nested deeper"):
        client.job(1)


class Endless:
    """An answer that goes on, always with the same bytes."""

    def __init__(self) -> None:
        self.raw, self.given = self, 0
        self._piece = bytes(2**20)

    def read1(self, _: int) -> bytes:
        """Some more."""
        self.given += len(self._piece)
        return self._piece

    read = read1


def test_an_answer_without_end_is_not_read_to_the_end_of_the_memory() -> None:
    endless: Any = Endless()
    with pytest.raises(UnreachableError, match="C2 sent more than 256 MiB"):
        read_whole(endless, time.monotonic() + 3600, "C2")
    assert endless.given <= MAX_ANSWER + 2**20
    with pytest.raises(UnreachableError, match="too slow"):
        read_whole(endless, time.monotonic() - 1, "C2")


def nested(levels: int) -> str:
    return '{"x": ' * levels + "1" + "}" * levels


@pytest.mark.parametrize("levels", [NESTING_LIMIT + 1, 500, 1000, 100_000])
@responses.activate
def test_a_final_result_that_is_nested_too_deeply_is_an_error_and_costs_no_other_jobs(
    client: JobManagerClient, levels: int
) -> None:
    deep = f'{{"job_id": 1, "final_result": {nested(levels)}}}'
    responses.get(f"{URL}/v1/jobs/1/results", body=deep)
    with pytest.raises(InvalidInputError, match="nested deeper than 100 levels"):
        client.results(1)
    responses.get(f"{URL}/v1/results", body=f'{{"results": [{deep}, {{"job_id": 2, "final_result": {{}}}}]}}')
    try:
        one, other = client.many_results([1, 2])
    except InvalidInputError as error:  # then each is asked for alone
        assert "nested deeper" in error.message
    else:
        assert "nested deeper" in one["error"]["message"]
        assert other == {"job_id": 2, "final_result": {}}


@responses.activate
def test_a_final_result_may_be_nested_as_deeply_as_c2_takes_it(client: JobManagerClient) -> None:
    responses.get(
        f"{URL}/v1/jobs/1/results", body=f'{{"job_id": 1, "final_result": {nested(NESTING_LIMIT)}}}'
    )
    assert client.results(1)["final_result"]["x"]
