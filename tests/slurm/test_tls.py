"""The TLS proxy of deploy/, with a center that trusts a CA, or only C2's key."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attackers import ODD_REQUESTS
from people import Researcher, operator
from testbed import Testbed
from tls_proxy import TlsProxy

pytestmark = pytest.mark.slurm


@pytest.fixture
def proxy(testbed: Testbed, tmp_path: Path) -> Iterator[TlsProxy]:
    operator(testbed, "partition", "enable", "p_qx")
    made = TlsProxy(testbed, tmp_path)
    yield made
    made.close()


def configured(testbed: Testbed, proxy: TlsProxy, **settings: str) -> dict[str, str]:
    """The environment of a user whose center's configuration has these TLS settings."""
    lines = {
        "url": f"{proxy.url}/slurm",
        "results_url": f"{proxy.url}/qslurm",
        "token_file": str(testbed.layout.token),
        **settings,
    }
    path = testbed.layout.folder / "etc" / "c1" / "tls.toml"
    path.write_text("[c2]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))
    return {"QSLURM_CONFIG": str(path)}


def test_a_job_goes_by_tls_and_c2_is_known_by_its_key_or_its_authority(
    testbed: Testbed, proxy: TlsProxy
) -> None:
    alice = Researcher(testbed)
    source = alice.has_example("bell.cq")
    ca_file = testbed.layout.folder / "etc" / "c1" / "ca.pem"
    shutil.copy(proxy.certificate, ca_file)
    ways: list[dict[str, Any]] = [{"pinned_key": proxy.pin()}, {"ca_file": str(ca_file)}]
    for way in ways:
        environment = configured(testbed, proxy, **way)
        done = alice.types("submit", source, "-b", "qx", "--wait", "--json", **environment)
        assert done.returncode == 0, done.stderr
        job = json.loads(done.stdout)
        assert set(job["results"]["counts"]) <= {"00", "11"}
        assert "shots" in alice.types("logs", str(job["job_id"]), **environment).stdout
        doctor = alice.types("doctor", "--json", **environment)
        assert json.loads(doctor.stdout)["ok"], doctor.stdout
    log = (proxy.folder / "access.log").read_text()
    assert "POST /slurm/slurm/" in log
    assert testbed.layout.token.read_text().split(".")[2].strip() not in log


def test_who_has_another_key_or_nobodys_certificate_gets_no_token(testbed: Testbed, proxy: TlsProxy) -> None:
    alice = Researcher(testbed)
    source = alice.has_example("bell.cq")
    other = "sha256//" + "A" * 43 + "="
    for way, said in (({"pinned_key": other}, "pinned"), ({}, "trusted")):
        environment = configured(testbed, proxy, **way)
        done = alice.types("submit", source, "-b", "qx", **environment)
        assert (done.returncode, said in done.stderr) == (5, True), done.stderr
        doctor = json.loads(alice.types("doctor", "--json", **environment).stdout)
        assert said in str(doctor["findings"])
    access = proxy.folder / "access.log"
    assert not access.exists() or not access.read_text()


def test_every_command_gets_through(testbed: Testbed, proxy: TlsProxy) -> None:
    alice = Researcher(testbed)
    source = alice.has_example("bell.cq")
    environment = configured(testbed, proxy, pinned_key=proxy.pin())

    def types(*words: str) -> str:
        done = alice.types(*words, **environment)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    held = types("submit", source, "-b", "qx", "--hold", "--parsable").strip()
    array = types("submit", source, "-b", "qx", "--hold", "--array", "0-2", "--parsable").strip()
    assert held in types("queue", "--all")
    types("cancel", f"{array}_1")
    types("cancel", array)
    types("release", held)
    types("wait", held)
    assert "shots" in types("results", held, "--json")
    for words in (("show", held), ("history",), ("info",), ("usage",), ("logs", held), ("doctor",)):
        types(*words)
    assert " 404 " not in (proxy.folder / "access.log").read_text().replace('/ping HTTP/1.1" 404 ', "")


@pytest.mark.parametrize(
    "request_line",
    ODD_REQUESTS,
)
def test_what_qslurm_never_asks_does_not_reach_slurmrestd(
    testbed: Testbed, proxy: TlsProxy, request_line: str
) -> None:
    before = testbed.pid("slurmrestd")
    token = testbed.token()
    context = ssl.create_default_context(cafile=str(proxy.certificate))
    with (
        socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(
            f"{request_line} HTTP/1.1\r\nHost: c2\r\nX-SLURM-USER-NAME: center_snellius\r\n"
            f"X-SLURM-USER-TOKEN: {token}\r\nX-HTTP-Method-Override: DELETE\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split()[1] in (b"400", b"404", b"405"), answer
    assert b"nginx" in answer
    assert testbed.pid("slurmrestd") == before
