"""`scripts/demo`: bring both clusters up, run the chapters from C1, tell what happened, take everything down."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from demo.chapters import CHAPTERS, EXACT_ENERGY_HA, Chapter, verdict
from demo.clusters import Operator, Researcher
from demo.narrator import Narrator
from qslurm.cli.output import bars
from qslurm.payload.templates import shipped_folder
from testbed import Testbed, TestbedError

RESEARCHER = "qs_alice"
PARTITION = "p_qx"
PATIENCE_S = 120.0
"""Seconds that any one thing may take before the demo gives up and says what it waited for."""

POLL_S = 0.05

T = TypeVar("T")


def main() -> int:
    """Run the demo; 0 when every job came back with the right result."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    parser.add_argument("--keep", action="store_true", help="leave both clusters up")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the clusters are taken down then, too
    narrator = Narrator()
    testbed = Testbed(name="default")
    was_up = testbed.is_up()
    try:
        return tell(testbed, narrator, as_json=options.json)
    except (TestbedError, TimeoutError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    finally:
        if options.keep or was_up:
            print(
                'Both clusters stay up: eval "$(scripts/testbed env)" enters C1, `scripts/testbed down` stops them.',
                file=sys.stderr,
            )
        else:
            testbed.down()


def tell(testbed: Testbed, narrator: Narrator, *, as_json: bool) -> int:
    """All chapters on one pair of clusters."""
    narrator.heading(
        "Two Slurm clusters on this machine: C1 “snellius”, a center, and C2 “qi”, beside a quantum platform"
    )
    testbed.up(on_start=lambda daemon: narrator.tell(daemon.cluster, f"{daemon.name} is up"))
    operator = Operator(testbed)
    operator.qslurm("partition", "enable", PARTITION)
    researcher = Researcher(testbed, RESEARCHER)
    _hand_out_examples(researcher)
    reports = [_play(chapter, researcher, operator, narrator) for chapter in CHAPTERS]
    failures = [report["wrong"] for report in reports if report["wrong"]]
    narrator.heading(
        f"{len(reports) - len(failures)} of {len(reports)} jobs crossed both clusters in {narrator.elapsed_s():.0f} s"
    )
    for failure in failures:
        narrator.tell("", f"wrong: {failure}")
    if as_json:
        first = reports[0]
        document = {
            "slurm_version": researcher.slurm_version(),
            "api_version": first["api_version"],
            "jobs": [
                {key: value for key, value in report.items() if key not in ("wrong", "api_version")}
                for report in reports
            ],
        }
        print(json.dumps(document), flush=True)
    return 1 if failures else 0


def _hand_out_examples(researcher: Researcher) -> None:
    """Put the example jobs into the researcher's folder, and let the researcher write there."""
    for name in sorted({chapter.example for chapter in CHAPTERS}):
        shutil.copy(shipped_folder() / "examples" / name, researcher.folder)


def _play(chapter: Chapter, researcher: Researcher, operator: Operator, narrator: Narrator) -> dict[str, Any]:
    """One chapter, told while it happens; the report on its job."""
    narrator.heading(chapter.title)
    if chapter.held:
        operator.qslurm("partition", "drain", PARTITION, "--reason", "calibration")
        narrator.tell("C2", f"the operator drains {PARTITION}: start nothing more, keep accepting")
    script = researcher.folder / f"{chapter.name}.sbatch"
    output = researcher.folder / f"{chapter.name}.out"
    output.unlink(missing_ok=True)
    script.write_text(chapter.sbatch_script(str(researcher.folder)))
    narrator.quote(line for line in script.read_text().splitlines() if "qslurm" in line)
    began, began_unix = time.monotonic(), time.time()
    c1_job_id = researcher.sbatch(script)
    narrator.tell("C1", f"sbatch {script.name}: {RESEARCHER}'s job {c1_job_id} on snellius")
    c2_job_id = int(_await(lambda: _said(output, "C2 job "), f"{script.name} to submit to C2", output))
    submitted_unix = time.time()
    narrator.tell("C2", f"slurmrestd took the payload: center_snellius's job {c2_job_id} on qi")
    if chapter.held:
        _tell_of_the_hold(c2_job_id, researcher, operator, narrator)
    _await(lambda: not researcher.is_running(c1_job_id), f"job {c1_job_id} on C1 to end", output)
    seconds = time.monotonic() - began
    results = _results(output, researcher, c2_job_id)
    shown = researcher.qslurm("show", str(c2_job_id))
    platform = shown.get("platform") or {}
    admitted, finished = platform.get("admitted_at") or 0.0, platform.get("finished_at") or 0.0
    narrator.tell(
        "C2",
        f"PrologSlurmctld: the dispatcher admitted job {c2_job_id} for backend {platform.get('backend')}",
    )
    narrator.tell(
        "QX",
        f"{platform.get('executions')} executions, {platform.get('shots')} shots, {platform.get('qpu_seconds', 0.0):.3f} s on the backend",
    )
    narrator.tell(
        "C2",
        f"EpilogSlurmctld: closed as {platform.get('slurm_state') or shown.get('state')}; the result is in the store",
    )
    _tell_of_the_result(results, narrator)
    narrator.tell(
        "",
        f"C1's queue and submit {submitted_unix - began_unix:.1f} s, C2's queue {max(0.0, admitted - submitted_unix):.1f} s, "
        f"run {finished - admitted:.1f} s, all {seconds:.1f} s",
    )
    report = {
        "name": chapter.name,
        "c1_job_id": c1_job_id,
        "c2_job_id": c2_job_id,
        "backend": platform.get("backend"),
        "seconds": round(seconds, 3),
        "api_version": shown.get("api_version"),
        "wrong": verdict(chapter, results),
    }
    key = "final_result" if "final_result" in results else "counts"
    return {**report, key: results.get(key)}


def _tell_of_the_hold(c2_job_id: int, researcher: Researcher, operator: Operator, narrator: Narrator) -> None:
    job = researcher.qslurm("show", str(c2_job_id))
    narrator.tell("C2", f"accepted and held: job {c2_job_id} is {job['state']}, {job['reason']}")
    operator.qslurm("partition", "enable", PARTITION)
    narrator.tell("C2", f"the operator enables {PARTITION}")


def _tell_of_the_result(results: dict[str, Any], narrator: Narrator) -> None:
    if "counts" in results:
        narrator.quote(bars(results["counts"]))
        return
    energy = results["final_result"]["energy"]
    narrator.quote(
        [
            f"energy {energy:.4f} Ha, exact {EXACT_ENERGY_HA} Ha, difference {abs(energy - EXACT_ENERGY_HA):.4f}"
        ]
    )


def _results(output: Path, researcher: Researcher, c2_job_id: int) -> dict[str, Any]:
    """The results as the sbatch script printed them on C1; asked for again if its output can't be read."""
    lines = output.read_text().splitlines()
    try:
        document = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise TestbedError(
            f"{output.name} does not end with the results of job {c2_job_id}: {lines[-3:]}"
        ) from error
    assert isinstance(document, dict)
    return document


def _said(output: Path, start: str) -> str | None:
    """The rest of the first line of an output that begins so."""
    try:
        lines = output.read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return None
    return next(
        (
            line.removeprefix(start).strip()
            for line in lines
            if line.startswith(start) and line.endswith("\n")
        ),
        None,
    )


def _await(condition: Callable[[], T | None], what: str, output: Path) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            said = output.read_text()[-500:] if output.exists() else "nothing"
            raise TimeoutError(f"waited {PATIENCE_S:.0f} s for {what}; it has printed: {said}")
        time.sleep(POLL_S)
    return value


if __name__ == "__main__":
    sys.exit(main())
