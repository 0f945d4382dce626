"""Batch scripts on C2, confined and not; and a payload's environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from c2_platform import HAND_OVER
from hybrid_jobs import ENDLESS, NOTHING, HybridJobs

from qslurm.payload.envelope import Envelope, pack

pytestmark = pytest.mark.slurm


@pytest.fixture
def confined_scripts(jobs: HybridJobs) -> Iterator[HybridJobs]:
    """C2 with the default setting, which the testbed changes for other stories."""
    testbed = jobs.platform.testbed
    file = testbed.layout.c2_qslurm
    text = file.read_text()
    assert "\nconfine_scripts = false\n" in text
    file.write_text(text.replace("\nconfine_scripts = false\n", "\nconfine_scripts = true\n"))
    testbed.restart("runtimes")
    yield jobs
    testbed.up()


ATTACKS = """
cat {logs}/center_snellius/{colleague}.out {logs}/center_lumi/*
echo forged >>{logs}/center_snellius/{colleague}.out
cat {spool}/job*/slurm_script
touch {work}/center_snellius/left /tmp/{left} /var/tmp/{left} /dev/shm/{left}
timeout 5 scancel {colleague}
timeout 5 sbatch --partition=p_qx --wrap=true
echo id=$(id -un) folder=$(pwd) privileges=$(grep -c 'NoNewPrivs:.1' /proc/self/status)
"""


@pytest.mark.parametrize("how", ["warm", "cold"])
def test_a_script_can_do_nothing_to_its_colleagues(confined_scripts: HybridJobs, how: str) -> None:
    jobs, layout = confined_scripts, confined_scripts.layout
    if how == "cold":
        jobs.platform.testbed.stop("runtimes")
    colleague = jobs.submit(ENDLESS)
    jobs.platform.until(lambda: "begun" in jobs.log(colleague))
    left = f"left-by-{jobs.platform.testbed.name}"
    lines = ATTACKS.format(
        logs=layout.job_logs, colleague=colleague, spool=layout.spool("c2"), work=layout.work, left=left
    )
    job_id = jobs.platform.submit_script(lines)
    jobs.platform.until_state(job_id, "COMPLETED")
    said = jobs.log(job_id)
    assert "id=center_snellius folder=/tmp/job privileges=1" in said
    assert "execute" not in said
    assert "Submitted batch job" not in said
    assert jobs.log(colleague).splitlines()[-1] == "begun"
    assert jobs.platform.state(colleague) == "RUNNING"
    assert not [place for place in ("/tmp", "/var/tmp", "/dev/shm") if Path(place, left).exists()]
    assert list((layout.work / "center_snellius").iterdir()) == []


def test_a_confined_script_ends_as_it_says_and_as_it_is_told(confined_scripts: HybridJobs) -> None:
    jobs, platform = confined_scripts, confined_scripts.platform
    fails = platform.submit_script("exit 3")
    dies = platform.submit_script("kill -SEGV $$")
    sleeps = platform.submit_script("echo begun; sleep 300")
    platform.until_state(fails, "FAILED")
    assert platform.job(fails)["ExitCode"] == "3:0"
    platform.until_state(dies, "FAILED")
    assert platform.job(dies)["ExitCode"] == "0:11"
    platform.until(lambda: "begun" in jobs.log(sleeps))
    platform.testbed.c2(["scancel", str(sleeps)])
    platform.until_state(sleeps, "CANCELLED")
    assert jobs.ended(sleeps)["state"] == "cancelled"


def test_a_script_that_is_not_confined_has_a_folder_of_its_own_all_the_same(jobs: HybridJobs) -> None:
    line = "pwd; ls -A; touch left"
    for job_id in [jobs.platform.submit_script(line), jobs.platform.submit_script(line)]:
        jobs.platform.until_state(job_id, "COMPLETED")
        (folder,) = jobs.log(job_id).split()
        assert Path(folder).is_relative_to(jobs.layout.work / "center_snellius")
    assert list((jobs.layout.work / "center_snellius").iterdir()) == []


ENVIRONMENTS = {
    "BASH_ENV": "$({run})",
    "ENV": "$({run})",
    "BASH_FUNC_exec%%": "() {{ {run}; }}",
    "BASH_FUNC_command%%": "() {{ {run}; }}",
    "SHELLOPTS": "xtrace",
    "PS4": "$({run})",
}


def test_nothing_in_a_payloads_environment_is_run_before_it_is_confined(jobs: HybridJobs) -> None:
    ran = jobs.layout.work / "center_snellius" / "ran"
    environment = {name: value.format(run=f"touch {ran}") for name, value in ENVIRONMENTS.items()}
    job = {
        "name": "x",
        "partition": "p_qx",
        "current_working_directory": "/",
        "environment": {"PATH": "/usr/bin:/bin"} | environment,
    }
    data = pack(Envelope(kind="hybrid", source=NOTHING, file="job.py"))
    payload = {"job": job, "script": f"{HAND_OVER}{data}\n"}

    def sent() -> dict[str, Any]:
        token = jobs.platform.testbed.token("snellius")
        headers = {"X-SLURM-USER-NAME": "center_snellius", "X-SLURM-USER-TOKEN": token}
        url = f"{jobs.platform.testbed.rest_url}/slurm/v0.0.38/job/submit"
        answer = requests.post(url, json=payload, headers=headers, timeout=60).json()
        assert isinstance(answer, dict)
        return answer

    job_id = sent()["job_id"]
    assert jobs.ended(job_id)["state"] == "finished", jobs.log(job_id)
    assert not ran.exists()
    log = jobs.layout.job_logs / "center_snellius" / f"{job_id}.out"
    job["environment"] = {"PATH": "/usr/bin:/bin", "LD_PRELOAD": str(log)}
    refusal = sent()
    assert not refusal.get("job_id"), refusal
    assert refusal["errors"][0]["error_code"] == 2037, refusal
