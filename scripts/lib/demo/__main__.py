"""Start both clusters, run three jobs from C1 on C2, and stop the clusters."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys

from testbed import Testbed, TestbedError

from demo.chapters import CHAPTERS
from demo.clusters import Operator, Researcher
from demo.demo_lock import demo_lock
from demo.narrator import Narrator
from demo.play import PARTITION, play
from qslurm.payload.templates import shipped_folder

RESEARCHER = "qs_alice"


def main() -> int:
    """Run the demo; 0 if every job returned the expected result."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document on the last line")
    parser.add_argument("--keep", action="store_true", help="keep both clusters running")
    options = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale without bars and dashes is no reason to fail
    testbed = Testbed()
    stays = False
    document: dict[str, object] = {}
    try:
        with demo_lock(testbed, keep=options.keep) as stays:
            status = _tell(testbed, Narrator(), document)
    except (TestbedError, TimeoutError) as error:
        print(f"demo: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        # nobody reads any more, as after `| head`; nor must the interpreter say so when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    if stays:
        print(
            'Both clusters are up. Work on C1: eval "$(scripts/testbed env)". Stop them: scripts/testbed down.'
        )
    if options.json and document:
        print(json.dumps(document))
    return status


def _tell(testbed: Testbed, narrator: Narrator, document: dict[str, object]) -> int:
    """Run all chapters; fills `document` for `--json`."""
    narrator.heading(
        "Two Slurm clusters: C1 is “snellius”, an HPC center's; C2 is “qi”, beside a quantum platform"
    )
    testbed.up(on_start=lambda daemon: narrator.tell(daemon.cluster, f"{daemon.name} is up"))
    operator, researcher = Operator(testbed), Researcher(testbed, RESEARCHER)
    operator.qslurm("partition", "enable", PARTITION)
    for name in sorted({chapter.example for chapter in CHAPTERS}):
        researcher.write(name, (shipped_folder() / "examples" / name).read_text())
    jobs = [play(chapter, researcher, operator, narrator) for chapter in CHAPTERS]
    document["slurm_version"] = operator.slurm_version()
    document["api_version"] = jobs[0].api_version
    document["jobs"] = [job.report() for job in jobs]
    right = sum(job.wrong is None for job in jobs)
    narrator.heading(f"{right} of {len(jobs)} jobs crossed both clusters, in {narrator.elapsed_s():.0f} s")
    for job in jobs:
        if job.wrong:
            narrator.tell("", f"{job.chapter.name}: {job.wrong}")
    return 0 if right == len(jobs) else 1


if __name__ == "__main__":
    sys.exit(main())
