"""Jobs that crash, print without end or use too much end with a reason, and their neighbours don't notice."""

from __future__ import annotations

import pytest
from harm import HARM
from hybrid_jobs import FINALIZE, NOTHING, HybridJobs

pytestmark = pytest.mark.slurm


@pytest.mark.parametrize("what", HARM)
def test_a_job_that(what: str, jobs: HybridJobs) -> None:
    """ends with a reason in its result; its neighbours, another center's and its own, don't notice."""
    source, reason = HARM[what]
    bad = jobs.submit("found = {}\n" + source + FINALIZE)
    assert jobs.found(NOTHING, user="center_lumi") == {"calm": True}
    assert jobs.found(NOTHING) == {"calm": True}
    job = jobs.ended(bad)
    assert job["state"] == "failed"
    assert reason in str(job["reason"])
    assert (jobs.layout.job_logs / "center_snellius" / f"{bad}.out").stat().st_size < 70_000_000


def test_a_job_without_a_result_has_failed_and_one_with_a_result_has_it(either: HybridJobs) -> None:
    """However its code ends the process, and whatever it does to its output; Slurm says the same."""

    def hybrid(does: str) -> int:
        return either.submit(f"import os, sys\nfound = {{'n': 1}}\ndef execute(qi):\n    {does}\n{FINALIZE}")

    early = [hybrid("os._exit(0)"), hybrid("os.execv('/bin/true', ['true'])"), hybrid("sys.exit(0)")]
    kept = [hybrid("sys.stdout.close()"), hybrid("os.close(1)"), hybrid("__import__('json').dumps = None")]
    for job_id in early:
        job = either.ended(job_id)
        assert (job["state"], "code 0" in str(job["reason"])) == ("failed", True), job
        assert either.platform.state(job_id) == "FAILED"
    for job_id in kept:
        assert either.result(job_id) == {"n": 1}
        assert either.platform.state(job_id) == "COMPLETED"
        assert either.log(job_id).splitlines()[-1] == '{"n":1}'


def test_without_the_service_a_job_that_prints_1_gb_ends_with_a_reason_too(jobs: HybridJobs) -> None:
    jobs.platform.testbed.stop("runtimes")
    try:
        job = jobs.ended(jobs.submit("found = {}\n" + HARM["prints 1 GB"][0] + FINALIZE))
    finally:
        jobs.platform.testbed.start("runtimes")
    assert (job["state"], "printed" in str(job["reason"])) == ("failed", True)
