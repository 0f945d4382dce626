"""Where the job manager may listen, and how it stops."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from urllib3 import Retry

from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.c2.jobmanager.http_service import parse_listen
from qslurm.c2.store.store import Store
from qslurm.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("127.0.0.1:8042", ("127.0.0.1", 8042)), ("[::1]:80", ("::1", 80)), ("localhost:1", ("localhost", 1))],
)
def test_loopback_addresses_are_fine(text: str, parsed: tuple[str, int]) -> None:
    assert parse_listen(text) == parsed


@pytest.mark.parametrize("text", ["0.0.0.0:80", "10.0.0.1:80", "[::]:80", "c2-head:80"])
def test_tokens_do_not_cross_a_network_in_the_clear(text: str) -> None:
    with pytest.raises(ConfigError, match="proxy"):
        parse_listen(text)


@pytest.mark.parametrize("text", ["", "8042", ":8042", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:99999"])
def test_what_is_no_address_is_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:8042"):
        parse_listen(text)


def test_it_stops_cleanly_on_sigterm_and_names_a_taken_address(tmp_path: Path, keys: TokensConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    Store(str(tmp_path / "store.db")).close()
    config = tmp_path / "c2.toml"
    config.write_text(
        f"[dispatcher]\nstore = '{tmp_path}/store.db'\n[tokens]\njwks = '{keys.jwks}'\n"
        f"[jobmanager]\nlisten = '127.0.0.1:{port}'\n"
    )
    code = (
        "import sys; from qslurm.c2.config.file import load_c2_config\n"
        "from qslurm.c2.jobmanager.http_service import serve\n"
        "from qslurm.errors import QslurmError\n"
        "try: serve(load_c2_config(sys.argv[1]))\n"
        "except QslurmError as error: sys.exit(str(error))"
    )
    command = [sys.executable, "-c", code, str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        try:
            with requests.Session() as http:
                retry = Retry(total=None, connect=100, backoff_factor=0.05, backoff_max=0.2)
                http.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
                assert http.get(f"http://127.0.0.1:{port}/healthz", timeout=20).ok
            second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            assert "cannot listen" in second.stderr
            first.send_signal(signal.SIGTERM)
            assert first.wait(30) == 0
        finally:
            first.kill()
