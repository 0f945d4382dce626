"""A hostile center: what it can do with its token, as its user on C2 and in jobs, and what it can read."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from c2_platform import HAND_OVER, Platform
from tls_proxy import TlsProxy

from qslurm.payload.envelope import Envelope, Kind, pack

MARK = b"mark-of-snellius"
"""It is in everything of snellius', and in nothing that lumi sends."""

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY")


@dataclass(frozen=True)
class Target:
    """What the attacker knows of another center: two of its jobs, one of them running, and a project's number."""

    running: int
    past: int
    project: int


class BusyError(requests.RequestException):
    """The attacker's share of the job manager is used up by another of its attacks."""


class AttackingCenter:
    """One attack of center lumi: what it has started, and everything that it has read."""

    user = "center_lumi"

    def __init__(self, platform: Platform, proxy: TlsProxy, target: Target, home: Path, python: Path) -> None:
        self.platform, self.proxy, self.target = platform, proxy, target
        self.testbed, self.layout = platform.testbed, platform.testbed.layout
        self.token = self.testbed.token("lumi")
        self.seen: list[bytes] = []
        self.jobs: list[int] = []
        self.arrays: list[int] = []
        self._home, self._python = home, python
        self._links: list[socket.socket] = []
        self._floods: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()

    def close(self) -> bytes:
        """End it, when what it has sent has begun; all that it has seen."""
        for job_id in self.jobs:
            self.platform.until(lambda job_id=job_id: self.platform.state(job_id) != "PENDING")
        for job_id in self.jobs + self.arrays:
            self.testbed.c2(["scancel", str(job_id)])
        self._over.set()
        for flood in self._floods:
            flood.kill()
            flood.wait()
        for thread in self._threads:
            thread.join()
        for link in self._links:
            link.close()
        for job_id in self.jobs:
            self.platform.until(lambda job_id=job_id: self.platform.state(job_id) in ENDED)
            log = self.layout.job_logs / self.user / f"{job_id}.out"
            if log.exists():
                self.seen.append(log.read_bytes())
        return b"\0".join(self.seen)

    # --- what it can do ------------------------------------------------------------------------------

    def flood(self, what: Callable[[str], None], path: Path) -> None:
        """Two processes of its user that do this to a socket until the attack is over."""
        for _ in range(2):
            command = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
            command += [
                str(self._python),
                str(self._home / "tests/slurm/floods.py"),
                what.__name__,
                str(path),
            ]
            environment = {"PYTHONPATH": str(self._home), "PYTHONDONTWRITEBYTECODE": "1"}
            self._floods.append(subprocess.Popen(command, env=environment, cwd="/"))

    def ask(self, method: str, path: str, token: str | None = None, **options: Any) -> requests.Response:
        """One question to the job manager, which never has an error of its own for it."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        url = self.testbed.results_url + path
        answer = requests.request(method, url, headers=headers, timeout=30, **options)
        assert answer.status_code not in {500, 502, 504}, (method, path, answer.text)
        self.seen.append(answer.content)
        if answer.status_code == 503:
            raise BusyError(answer.text)
        return answer

    def by_api(self, kind: str, **fields: object) -> Any:
        answer = self.ask("POST", f"/quantum-inspire/{kind}", json=fields)
        assert answer.ok, answer.text
        return answer.json()["id"]

    def restd(
        self, method: str, path: str, user: str = "center_lumi", token: str | None = None, **options: Any
    ) -> requests.Response:
        """One question to slurmrestd, by the way in that C2 has."""
        headers = {"X-SLURM-USER-NAME": user, "X-SLURM-USER-TOKEN": token or self.token}
        url = f"{self.proxy.url}/slurm/{path}"
        certificate = str(self.proxy.certificate)
        answer = requests.request(method, url, headers=headers, verify=certificate, timeout=30, **options)
        self.seen.append(answer.content)
        return answer

    def keep(self, link: socket.socket) -> None:
        """Hold a connection until the attack is over."""
        self._links.append(link)

    def raw(self, request: str, *, times: int, with_token: bool = True) -> None:
        """Connections to the job manager that begin like this and stay."""
        port = self.testbed.ports["jobmanager"]
        token = f"Authorization: Bearer {self.token}\r\n" if with_token else ""
        for _ in range(times):
            link = socket.create_connection(("127.0.0.1", port), timeout=60)
            self.keep(link)
            with suppress(OSError):  # it may have been sent away
                link.sendall(request.replace("TOKEN", token).encode())

    def sends(self, request: str) -> None:
        """One connection to the job manager that sends this, and ends once there is an answer."""
        address = ("127.0.0.1", self.testbed.ports["jobmanager"])
        with socket.create_connection(address, timeout=60) as link:
            link.sendall(request.encode())
            link.recv(4096)

    def again(self, what: Callable[[], object]) -> None:
        """Four threads that do this until the attack is over."""

        def work() -> None:
            while not self._over.is_set():
                with suppress(requests.RequestException, OSError):
                    what()

        for _ in range(4):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            self._threads.append(thread)

    def types(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A command on C2, as its user there."""
        done = self.testbed.c2(words, user=self.user, stdin=stdin)
        self.seen.append((done.stdout + done.stderr).encode())
        return done

    def runs(self, source: str, kind: Kind = "hybrid", *options: str, times: int = 1) -> None:
        folders = [self.layout.job_logs, self.layout.work, self.layout.store.parent, self.layout.gate]
        folders += [self.layout.spool("c2"), self.layout.keys, self.layout.run]
        source = source.replace("*FOLDERS", f"*{[str(one) for one in folders]!r}")
        if kind == "hybrid" or kind == "circuit":
            source = f"{HAND_OVER}{pack(Envelope(kind=kind, source=source, file='lumi'))}\n"
        for _ in range(times):
            self.jobs.append(self.platform.submit(source, *options, user=self.user, kind=kind))
