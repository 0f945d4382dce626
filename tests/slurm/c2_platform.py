"""C2 in the stories: its partition p_qx, its backend qx, and the commands of an operator and of two centers."""

from __future__ import annotations

import json
import re
import time
import tomllib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from testbed import Testbed

from qslurm.payload.envelope import Envelope, pack
from qslurm.payload.handover import SHIPPED

BELL = "version 3.0\nqubit[2] q\nbit[2] b\nH q[0]\nCNOT q[0], q[1]\nb = measure q\n"
HAND_OVER = SHIPPED[-1]


class Platform:
    """C2's partition p_qx: commands of an operator and of two centers, and what they show."""

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed
        self.gate_folder = Path(self._config("gate", "state"))

    def _config(self, section: str, key: str) -> str:
        return str(tomllib.loads(self.testbed.layout.c2_qslurm.read_text())[section][key])

    # --- what people do ------------------------------------------------------------------------------

    def operator(self, *words: str, user: str = "root") -> str:
        done = self.testbed.c2(["qslurm", *words], user=user)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def scontrol(self, *words: str) -> str:
        done = self.testbed.c2(["scontrol", *words])
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, script: str, *options: str, user: str = "center_snellius", kind: str = "script") -> int:
        comment = f"--comment=qslurm key={uuid.uuid4().hex} kind={kind} backend=qx"
        command = ["sbatch", "--parsable", "--partition=p_qx", "--chdir=/", comment, *options]
        done = self.testbed.c2(command, user=user, stdin=script)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    def submit_script(self, line: str, *options: str, user: str = "center_snellius") -> int:
        return self.submit(f"#!/bin/bash\n{line}\n", *options, user=user)

    def submit_endless(self) -> int:
        """A job whose script has begun and does not end by itself."""
        job_id = self.submit_script("echo begun; sleep 300")
        self.until(
            lambda: job_id in self.open_tasks() and "begun" in self.ask(f"jobs/{job_id}/logs").text,
            seen=lambda: self.job(job_id),
        )
        return job_id

    def submit_bell(self, *options: str, user: str = "center_snellius") -> int:
        data = pack(Envelope(kind="circuit", source=BELL, shots=100))
        return self.submit(f"{HAND_OVER}{data}\n", *options, user=user, kind="circuit")

    def ask(self, path: str, *, center: str = "snellius", token: str | None = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {token or self.testbed.token(center)}"}
        return requests.get(f"{self.testbed.results_url}/v1/{path}", headers=headers, timeout=30)

    def tasks_of(self, job_id: int) -> list[int]:
        """The C2 job ids of an array's tasks, once all have ended."""

        def ended() -> list[str]:
            listed = self.testbed.c2(["squeue", "--noheader", "--array", "--states=all", f"--jobs={job_id}",
                                      "--Format=JobID:|,State:|"]).stdout.split()  # fmt: skip
            done = [line for line in listed if line.split("|")[1] in {"COMPLETED", "FAILED", "CANCELLED"}]
            return done if len(done) == len(listed) else []

        self.until(ended)
        return [int(line.split("|")[0]) for line in ended()]

    # --- what is seen --------------------------------------------------------------------------------

    def job(self, job_id: int) -> dict[str, str]:
        return dict(
            re.findall(r"(\w+)=(.*?)(?= \w+=|$)", self.scontrol("show", "job", "--oneliner", str(job_id)))
        )

    def state(self, job_id: int) -> str:
        return self.job(job_id)["JobState"]

    def stored(self, job_id: int, *, center: str = "snellius") -> dict[str, Any]:
        found = self.ask(f"jobs/{job_id}", center=center).json()
        assert isinstance(found, dict)
        return found

    def partition(self) -> dict[str, Any]:
        rows = json.loads(self.operator("partition", "status", "--json"))["partitions"]
        found = next(row for row in rows if row["partition"] == "p_qx")
        assert isinstance(found, dict)
        return found

    def open_tasks(self) -> list[int]:
        status = json.loads(self.operator("dispatcher", "status", "--json"))
        return [task["job_id"] for task in status["tasks"]]

    def node_state(self) -> str:
        return self.testbed.c2(["sinfo", "--noheader", "--Node", "--format=%t"]).stdout.split()[0]

    def hooks_log(self) -> str:
        return (self.gate_folder / "hooks.log").read_text()

    def spooled(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.gate_folder / folder).glob("*.json"))

    def until(
        self, question: Callable[[], object], timeout_s: float = 120, seen: Callable[[], object] = lambda: ""
    ) -> None:
        """Poll until `question` returns true; Slurm sends no events."""
        deadline = time.monotonic() + timeout_s
        while not question():
            if time.monotonic() > deadline:
                pytest.fail(f"still no after {timeout_s} s {seen()}\n{self.hooks_log()[-3000:]}")
            time.sleep(0.1)

    def until_state(self, job_id: int, state: str, timeout_s: float = 120) -> None:
        self.until(lambda: self.state(job_id) == state, timeout_s, lambda: self.job(job_id))

    def until_turned_away(self, job_id: int) -> None:
        """Wait until the job's prolog has sent it back and it is in the queue again."""
        self.until(
            lambda: f"{job_id}.json" in self.spooled("turned-away") and self.state(job_id) == "PENDING"
        )

    # --- trouble -------------------------------------------------------------------------------------

    @contextmanager
    def without_gate(self) -> Iterator[None]:
        """Stop the gate meanwhile, so that the hooks meet the failure themselves."""
        self.testbed.stop("gate")
        try:
            yield
        finally:
            self.testbed.start("gate")

    def clean(self) -> None:
        """Remove all jobs, enable p_qx, and wait until the gate has nothing left to do."""
        self.testbed.up()
        for user in ("center_snellius", "center_lumi"):
            self.testbed.c2(["scancel", f"--user={user}"])
        self.operator("backend", "online", "qx")
        self.operator("partition", "enable", "p_qx")
        self.until(lambda: not self.testbed.c2(["squeue", "--noheader"]).stdout.strip())
        self.until(lambda: self.partition()["slurm_state"] == "UP" and not self.open_tasks())
        self.until(lambda: not self.spooled("turned-away") and not self.spooled("finish"))
