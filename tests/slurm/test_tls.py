"""Through the way into C2 that deploy/ has: a center that believes by an authority, or by C2's key alone."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from people import Researcher, eventually, operator
from testbed import Testbed, files, memory
from testbed.render import merged, render

pytestmark = pytest.mark.slurm

MAIN = """\
daemon off; user root; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  include {folder}/qslurm.conf;
}}
"""


class Entrance:
    """An nginx with C2's own certificate."""

    def __init__(self, testbed: Testbed, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.folder, self.certificate, key = folder, folder / "c2.pem", folder / "c2.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", "/CN=c2", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", key, "-out", self.certificate],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        variables = files.values(testbed.layout, memory.recall(testbed.layout))
        tls = {
            "tls_listen": f"127.0.0.1:{self.port}",
            "tls_certificate": str(self.certificate),
            "tls_key": str(key),
        }
        (folder / "qslurm.conf").write_text(render("c2/nginx.conf.j2", merged(variables, {"c2": tls})))
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
        self._process = subprocess.Popen(["nginx", "-c", folder / "nginx.conf"], stderr=subprocess.DEVNULL)
        eventually(self._listens, "nginx to listen", seen=(folder / "error.log").read_text)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def pin(self) -> str:
        """C2's key, by the command that the documentation has."""
        readme = (Path(__file__).parents[2] / "deploy" / "README.md").read_text()
        command = readme.partition("    openssl x509")[2].partition("\n\n")[0]
        line = f"openssl x509{command}".replace("/etc/ssl/certs/c2.pem", str(self.certificate))
        return subprocess.run(
            ["sh", "-c", line], check=True, capture_output=True, text=True, timeout=60
        ).stdout.strip()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture
def entrance(testbed: Testbed, tmp_path: Path) -> Iterator[Entrance]:
    operator(testbed, "partition", "enable", "p_qx")
    made = Entrance(testbed, tmp_path)
    yield made
    made.close()


def configured(testbed: Testbed, entrance: Entrance, **settings: str) -> dict[str, str]:
    """A user's environment with a center's configuration that trusts so."""
    lines = {
        "url": f"{entrance.url}/slurm",
        "results_url": f"{entrance.url}/qslurm",
        "token_file": str(testbed.layout.token),
        **settings,
    }
    path = testbed.layout.folder / "etc" / "c1" / "tls.toml"
    path.write_text("[c2]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))
    return {"QSLURM_CONFIG": str(path)}


def test_a_job_goes_by_tls_and_c2_is_known_by_its_key_or_its_authority(
    testbed: Testbed, entrance: Entrance
) -> None:
    alice = Researcher(testbed)
    source = alice.has_example("bell.cq")
    ca_file = testbed.layout.folder / "etc" / "c1" / "ca.pem"
    shutil.copy(entrance.certificate, ca_file)
    ways: list[dict[str, Any]] = [{"pinned_key": entrance.pin()}, {"ca_file": str(ca_file)}]
    for way in ways:
        environment = configured(testbed, entrance, **way)
        done = alice.types("submit", source, "-b", "qx", "--wait", "--json", **environment)
        assert done.returncode == 0, done.stderr
        job = json.loads(done.stdout)
        assert set(job["results"]["counts"]) <= {"00", "11"}
        assert "shots" in alice.types("logs", str(job["job_id"]), **environment).stdout
        doctor = alice.types("doctor", "--json", **environment)
        assert json.loads(doctor.stdout)["ok"], doctor.stdout
    log = (entrance.folder / "access.log").read_text()
    assert "POST /slurm/slurm/" in log
    assert testbed.layout.token.read_text().split(".")[2].strip() not in log


def test_who_has_another_key_or_nobodys_certificate_gets_no_token(
    testbed: Testbed, entrance: Entrance
) -> None:
    alice = Researcher(testbed)
    source = alice.has_example("bell.cq")
    other = "sha256//" + "A" * 43 + "="
    for way, said in (({"pinned_key": other}, "is not the pinned one"), ({}, "is not to be trusted")):
        environment = configured(testbed, entrance, **way)
        done = alice.types("submit", source, "-b", "qx", **environment)
        assert (done.returncode, said in done.stderr) == (5, True), done.stderr
        doctor = json.loads(alice.types("doctor", "--json", **environment).stdout)
        assert said in str(doctor["findings"])
    access = entrance.folder / "access.log"
    assert not access.exists() or not access.read_text()
