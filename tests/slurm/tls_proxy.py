"""The TLS proxy of deploy/: nginx in front of slurmrestd and the job manager."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from people import eventually
from testbed import Testbed, files, saved_state
from testbed.render import merged, render

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


class TlsProxy:
    """nginx with C2's certificate."""

    def __init__(self, testbed: Testbed, folder: Path) -> None:
        self.port = testbed.ports["tls"]
        self.url = f"https://127.0.0.1:{self.port}"
        self.folder, self.certificate, key = folder, folder / "c2.pem", folder / "c2.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", "/CN=c2", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", key, "-out", self.certificate],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        variables = files.values(testbed.layout, saved_state.load(testbed.layout))
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
        """The hash of C2's key, by the documented command."""
        readme = (Path(__file__).parents[2] / "deploy" / "README.md").read_text()
        command = readme.partition("    openssl x509")[2].partition("\n\n")[0]
        line = f"openssl x509{command}".replace("/etc/ssl/certs/c2.pem", str(self.certificate))
        return subprocess.run(
            ["sh", "-c", line], check=True, capture_output=True, text=True, timeout=60
        ).stdout.strip()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop its master and its worker by SIGSTOP."""
        master = self._process.pid
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        pids = [master, *map(int, children)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
