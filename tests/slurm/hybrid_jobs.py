"""Hybrid jobs for stories about classical runtimes."""

from __future__ import annotations

import re

from c2_platform import HAND_OVER, Platform

from qslurm.payload.envelope import Envelope, pack

FINALIZE = "\ndef finalize(m):\n    return found\n"
NOTHING = "found = {'calm': True}\ndef execute(qi):\n    pass\n" + FINALIZE
ENDLESS = (
    """
import time
def execute(qi):
    print("begun", flush=True)
    time.sleep(1000)
found = {}
"""
    + FINALIZE
)


class HybridJobs:
    """The hybrid jobs of a center's user."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.layout = platform.testbed.layout

    def submit(self, source: str, *options: str, user: str = "center_snellius") -> int:
        data = pack(Envelope(kind="hybrid", source=source, file="job.py"))
        return self.platform.submit(f"{HAND_OVER}{data}\n", *options, user=user, kind="hybrid")

    def ended(self, job_id: int, *, center: str = "snellius") -> dict[str, object]:
        """The job's record, once it has ended."""
        self.platform.until(lambda: self.platform.stored(job_id, center=center).get("finished_at"))
        self.platform.until(lambda: self.platform.state(job_id) not in {"RUNNING", "COMPLETING"})
        return self.platform.stored(job_id, center=center)

    def found(self, source: str, *options: str, user: str = "center_snellius") -> dict[str, object]:
        """The final result of a hybrid file, which must have one."""
        return self.result(self.submit(source, *options, user=user), user)

    def result(self, job_id: int, user: str = "center_snellius") -> dict[str, object]:
        """The final result of a job, once it has ended; it must have one."""
        center = user.removeprefix("center_")
        job = self.ended(job_id, center=center)
        assert job["state"] == "finished", (job, self.log(job_id, user))
        result = self.platform.ask(f"jobs/{job_id}/results", center=center).json()["final_result"]
        assert isinstance(result, dict)
        return result

    def log(self, job_id: int, user: str = "center_snellius") -> str:
        path = self.layout.job_logs / user / f"{job_id}.out"
        return path.read_text()[:10_000] if path.exists() else ""

    def runtime_of(self, job_id: int) -> int:
        """The watcher process of a job with a warm runtime, from the service's log."""
        found = re.search(
            rf" job={job_id} .*\bpid=(\d+)$", self.platform.testbed.log("runtimes").read_text(), re.MULTILINE
        )
        assert found, job_id
        return int(found[1])
