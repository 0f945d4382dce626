"""Two real clusters for benchmarks of submissions: a user with an agent, and peers that need none.

All jobs are held, so nothing runs meanwhile, and are cancelled after each measurement. The daemons are started from
here, so they inherit real-time priority (`chrt -f 1 scripts/bench …`).
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from testbed import Testbed
from testbed.errors import TestbedError
from testbed.users import CENTER_USERS

from bench.report import Report
from qslurm.c1.config.settings import Config
from qslurm.c1.submission.sending import Batch
from qslurm.payload.spec import JobSpec
from qslurm.slurm.rest.adapters import ADAPTERS

INSTANCE = "bench"
CENTER_USER = CENTER_USERS[0]
TIMEOUT_S = 600.0
CIRCUIT = """version 3.0
qubit[2] q
bit[2] b
Rx({angle}) q[0]
CNOT q[0], q[1]
b = measure q
"""


@contextmanager
def center(report: Report) -> Iterator[Center | None]:
    """Start both clusters for a benchmark; yields None, with a note, without root or Slurm."""
    if os.geteuid() != 0 or not shutil.which("slurmctld"):
        report.note("Skipped: needs root and Slurm. Run `scripts/testbed up` to install Slurm.")
        yield None
        return
    with Testbed(INSTANCE) as testbed:
        yield Center(testbed)


class Center:
    """A researcher of C1, and the peers: curl with the center's token, and sbatch on C2."""

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed
        self.token = testbed.token()
        self.folder = testbed.work_folder() / "bench"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self._settings = self.folder / "users.toml"
        self._settings.write_text(f'[agent]\nsocket = "{testbed.layout.agent_socket}"\n')
        self._adapter = next(
            adapter for adapter in ADAPTERS.values() if self._answers(f"{adapter.control}/ping")
        )
        self._curl = self.folder / "curl"
        self._curl.touch(mode=0o600)
        self._curl.write_text(self._curl_options(self.submit_path))

    @property
    def api_version(self) -> str:
        """The API version of curl's requests, the newest that C2 serves."""
        return self._adapter.version

    @property
    def submit_path(self) -> str:
        """The path of submissions in that version."""
        return f"{self._adapter.control}/job/submit"

    @property
    def headers(self) -> dict[str, str]:
        """The headers that slurmrestd requires."""
        return {"X-SLURM-USER-NAME": CENTER_USER, "X-SLURM-USER-TOKEN": self.token}

    def circuits(self, count: int) -> list[Path]:
        """Write `count` different circuits."""
        files = [self.folder / f"rabi_{number:05}.cq" for number in range(count)]
        for number, file in enumerate(files):
            file.write_text(CIRCUIT.format(angle=f"{number / count:.6f}"))
        return files

    def payloads(self, circuits: Sequence[Path]) -> list[bytes]:
        """The circuits as payloads for slurmrestd, each with a new key."""
        made = []
        for file in circuits:
            job = JobSpec(file=file, backend="qx", hold=True)
            payload = Batch(Config(), [job], {"USER": "bench"}).packages[0].payload
            made.append(json.dumps(self._adapter.payload(payload)).encode())
        return made

    def curls(self, payloads: Sequence[bytes]) -> float:
        """Seconds of a loop that runs curl for each payload."""
        files = [self.folder / f"payload_{number:05}.json" for number in range(len(payloads))]
        for file, payload in zip(files, payloads, strict=True):
            file.write_bytes(payload)
        loop = f'for file; do curl --config {self._curl} --data-binary "@$file"; done'
        seconds, said = self._timed(("sh", "-c", loop, "sh", *map(str, files)), user="root")
        self._expect(said.count('"job_id":'), len(payloads), said)
        return seconds

    def sbatches(self, payloads: Sequence[bytes]) -> float:
        """Seconds of a loop that runs sbatch for each script, on C2."""
        files = [self.folder / f"script_{number:05}.sh" for number in range(len(payloads))]
        for file, payload in zip(files, payloads, strict=True):
            file.write_text(json.loads(payload)["script"])
        loop = 'for file; do sbatch --parsable --hold --partition=p_qx --export=NIL --comment="qslurm" "$file"; done'
        seconds, said = self._timed(("sh", "-c", loop, "sh", *map(str, files)), user=CENTER_USER, on_c2=True)
        self._expect(len(said.split()), len(payloads), said)
        return seconds

    def submits(self, files: Sequence[Path], *options: str, ids: int | None = None) -> float:
        """Seconds of one `qslurm submit` through the center's agent."""
        command = ("qslurm", "submit", *map(str, files), "--backend", "qx", "--hold", "--parsable", *options)
        seconds, said = self._timed(command, user="qs_alice")
        self._expect(len(said.split()), len(files) if ids is None else ids, said)
        return seconds

    def clear(self) -> None:
        """Cancel all jobs, and wait until C2's queue is empty."""
        self.testbed.c2(("scancel", f"--user={CENTER_USER}"), timeout_s=TIMEOUT_S)
        until = time.monotonic() + TIMEOUT_S
        while self.testbed.c2(("squeue", "--noheader", f"--user={CENTER_USER}")).stdout.strip():
            if time.monotonic() > until:
                raise TestbedError("C2's queue does not become empty.")
            time.sleep(0.2)

    def _timed(self, command: Sequence[str], *, user: str, on_c2: bool = False) -> tuple[float, str]:
        environment = {} if on_c2 else {"QSLURM_CONFIG": str(self._settings)}
        call = self.testbed.c2 if on_c2 else self.testbed.c1
        began = time.perf_counter()
        done = call(command, user=user, timeout_s=TIMEOUT_S, **environment)
        seconds = time.perf_counter() - began
        if done.returncode != 0:
            raise TestbedError(f"{command[0]} exited with code {done.returncode}: {done.stderr[-500:]}")
        return seconds, done.stdout

    def _expect(self, found: int, wanted: int, said: str) -> None:
        if found != wanted:
            raise TestbedError(f"C2 accepted {found} of {wanted}: {said[-500:]}")

    def _curl_options(self, path: str) -> str:
        """curl's options for a file, so that the token is on no command line."""
        headers = {**self.headers, "Content-Type": "application/json"}
        lines = [f'header = "{name}: {value}"' for name, value in headers.items()]
        return "\n".join([*lines, f'url = "{self.testbed.rest_url}{path}"', "silent", "show-error"])

    def _answers(self, path: str) -> bool:
        done = self.testbed.c1(
            ("curl", "--config", "-", "--fail"), user="root", stdin=self._curl_options(path)
        )
        return done.returncode == 0
