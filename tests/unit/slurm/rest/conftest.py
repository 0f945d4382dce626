"""How tests replay recorded exchanges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import responses
from recordings import TOKEN, URL, Exchange, body_of, load

from qslurm.slurm.rest import SlurmrestClient
from qslurm.slurm.rest.endpoint import Endpoint
from qslurm.tokens.secret import Secret


@pytest.fixture
def network() -> Iterator[responses.RequestsMock]:
    """Nothing leaves this machine; what was not registered is a refused connection."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def replay(network: responses.RequestsMock) -> Callable[[str, str], Exchange]:
    """Register a recorded exchange: its request is answered as the real server did."""

    def register(version: str, name: str) -> Exchange:
        exchange = load(version, name)
        request, response = exchange["request"], exchange["response"]
        network.add(
            request["method"],
            URL + request["path"],
            body=body_of(exchange),
            status=response["status"],
            content_type=response["headers"].get("Content-Type", ""),
        )
        return exchange

    return register


@pytest.fixture
def unserved(network: responses.RequestsMock) -> Callable[..., None]:
    """Answer the pings of these versions as a slurmrestd does that has never heard of them, or as another server."""

    def register(
        *versions: str, words: str = "Unable find requested URL.", status: int = 404, kind: str = "text/plain"
    ) -> None:
        for version in versions:
            network.get(f"{URL}/slurm/{version}/ping", body=words, status=status, content_type=kind)

    return register


@pytest.fixture
def client() -> Iterator[Callable[..., SlurmrestClient]]:
    """Makes clients of the recorded C2."""
    made: list[SlurmrestClient] = []

    def make(
        api_version: str = "v0.0.39", url: str = URL, timeout_s: float = 30.0, **options: Any
    ) -> SlurmrestClient:
        endpoint = Endpoint(url, Secret(TOKEN), "center_snellius", timeout_s)
        made.append(SlurmrestClient(endpoint, api_version=api_version, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
