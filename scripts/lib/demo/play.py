"""Runs one chapter: submits its job on C1, follows it to C2 and back, and prints what happens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from testbed import TestbedError

from demo.chapters import EXACT_ENERGY_HA, Chapter, why_wrong
from demo.clusters import Operator, Researcher
from demo.narrator import Narrator
from qslurm.cli.output import bars

PARTITION = "p_qx"
PATIENCE_S = 120.0
"""Seconds that any one thing may take before the demo gives up and says what it waited for."""

POLL_S = 0.05

T = TypeVar("T")


@dataclass(frozen=True)
class FinishedJob:
    """A job that came back. Times are Unix seconds; `platform` is its record in C2's job manager."""

    chapter: Chapter
    c1_job_id: int
    c2_job_id: int
    began: float
    submitted: float
    ended: float
    results: dict[str, Any]
    api_version: str
    platform: dict[str, Any]

    @property
    def wrong(self) -> str | None:
        """Why the result is wrong, or None."""
        return why_wrong(self.chapter, self.results)

    def report(self) -> dict[str, Any]:
        """The job in the document of `--json`."""
        result = "final_result" if "final_result" in self.results else "counts"
        return {
            "name": self.chapter.name,
            "c1_job_id": self.c1_job_id,
            "c2_job_id": self.c2_job_id,
            "backend": self.platform.get("backend"),
            result: self.results.get(result),
            "seconds": round(self.ended - self.began, 3),
        }

    def durations(self) -> str:
        """The duration of each part."""
        admitted, finished = self.platform["admitted_at"], self.platform["finished_at"]
        return (
            f"C1's queue and submit {self.submitted - self.began:.1f} s, "
            f"C2's queue {max(0.0, admitted - self.submitted):.1f} s, "
            f"run {finished - admitted:.1f} s, back {max(0.0, self.ended - finished):.1f} s: "
            f"{self.ended - self.began:.1f} s"
        )


class Follower:
    """Prints the dispatcher's changes of a job."""

    def __init__(self, c2_job_id: int, operator: Operator, narrator: Narrator) -> None:
        self._job = c2_job_id
        self._operator = operator
        self._narrator = narrator
        self._told: list[str] = []

    def look(self) -> bool:
        """Print what is new; returns False, for use as a condition of a wait."""
        task = self._operator.open_task(self._job)
        if task is not None:
            self._admitted(task.kind, task.backend)
            if task.state == "running":
                self._tell(
                    "running", f"slurmd: the job's step runs as center_{task.center}, with the dispatcher"
                )
        elif self._told:
            self._closed()
        return False

    def complete(self, facts: dict[str, Any]) -> None:
        """Print the changes that were missed between two looks."""
        self._admitted(facts["kind"], facts["backend"])
        self._closed()

    def _admitted(self, kind: str, backend: str) -> None:
        how = "its circuit goes straight" if kind == "circuit" else "its step will bring circuits"
        self._tell("admitted", f"PrologSlurmctld: the dispatcher admits job {self._job}; {how} to {backend}")

    def _closed(self) -> None:
        self._tell("closed", f"EpilogSlurmctld: job {self._job} is closed, its result is in the store")

    def _tell(self, what: str, text: str) -> None:
        if what not in self._told:
            self._told.append(what)
            self._narrator.tell("C2", text)


def play(chapter: Chapter, researcher: Researcher, operator: Operator, narrator: Narrator) -> FinishedJob:
    """Run a chapter; TimeoutError or TestbedError if the job does not come back."""
    narrator.heading(chapter.title)
    if chapter.held:
        operator.qslurm("partition", "drain", PARTITION, "--reason", "calibration")
        narrator.tell("C2", f"the operator drains {PARTITION}: C2 accepts jobs and starts none")
    script, output = _written(chapter, researcher)
    narrator.quote(line for line in script.read_text().splitlines() if "qslurm " in line)
    began = time.time()
    c1_job_id = researcher.sbatch(script)
    narrator.tell("C1", f"sbatch {script.name}: {researcher.user}'s job {c1_job_id} on snellius")
    c2_job_id = int(_await(lambda: _said(output, "C2 job ") or "", f"{script.name} to submit to C2", output))
    submitted = time.time()
    narrator.tell("C2", f"slurmrestd accepted the payload: center_snellius's job {c2_job_id} on qi")
    if chapter.held:
        _tell_that_it_is_held(c2_job_id, researcher, operator, narrator)
    follower = Follower(c2_job_id, operator, narrator)
    _await(
        lambda: follower.look() or not researcher.is_running(c1_job_id),
        f"job {c1_job_id} on C1 to end",
        output,
    )
    ended = time.time()
    results = _results(output)
    shown = researcher.qslurm("show", str(c2_job_id))
    if not shown.get("platform"):
        raise TestbedError(f"C2's job manager does not know job {c2_job_id}.")
    job = FinishedJob(
        chapter,
        c1_job_id,
        c2_job_id,
        began,
        submitted,
        ended,
        results,
        shown["api_version"],
        shown["platform"],
    )
    follower.complete(job.platform)
    _tell_of_the_result(job, narrator)
    return job


def _written(chapter: Chapter, researcher: Researcher) -> tuple[Path, Path]:
    """The chapter's sbatch script and its output file."""
    output = researcher.folder / f"{chapter.name}.out"
    output.unlink(missing_ok=True)
    return researcher.write(f"{chapter.name}.sbatch", chapter.sbatch_script(output)), output


def _tell_that_it_is_held(
    c2_job_id: int, researcher: Researcher, operator: Operator, narrator: Narrator
) -> None:
    job = researcher.qslurm("show", str(c2_job_id))
    narrator.tell("C2", f"accepted and held: job {c2_job_id} is {job['state']}, {job['reason']}")
    operator.qslurm("partition", "enable", PARTITION)
    narrator.tell("C2", f"the operator enables {PARTITION}")


def _tell_of_the_result(job: FinishedJob, narrator: Narrator) -> None:
    facts = job.platform
    executions = "1 execution" if facts["executions"] == 1 else f"{facts['executions']} executions"
    narrator.tell(
        "QX", f"{executions}, {facts['shots']} shots, {facts['qpu_seconds']:.3f} s of the backend's time"
    )
    narrator.tell("C1", "the result in the sbatch script's output:")
    if "counts" in job.results:
        narrator.quote(bars(job.results["counts"], job.results["shots"]))
    else:
        energy = job.results["final_result"]["energy"]
        narrator.quote(
            [
                f"energy {energy:.4f} Ha; exact {EXACT_ENERGY_HA} Ha; off by {abs(energy - EXACT_ENERGY_HA):.4f}"
            ]
        )
    narrator.tell("", job.durations())


def _results(output: Path) -> dict[str, Any]:
    """The results from the last line of the sbatch script's output."""
    text = output.read_text()
    try:
        document = json.loads(text.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise TestbedError(f"{output.name} does not end with a job's results: {text[-500:]}") from error
    assert isinstance(document, dict)
    return document


def _said(output: Path, start: str) -> str | None:
    """The rest of the output's first complete line with this prefix."""
    if not output.exists():
        return None
    lines = [line for line in output.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return next((line.removeprefix(start).strip() for line in lines if line.startswith(start)), None)


def _await(condition: Callable[[], T], what: str, output: Path) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            said = output.read_text()[-500:] if output.exists() else "nothing"
            raise TimeoutError(f"waited {PATIENCE_S:.0f} s for {what}; it has printed: {said}")
        time.sleep(POLL_S)
    return value
