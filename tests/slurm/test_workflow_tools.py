"""Jobs submitted from HyperQueue and QCG-PilotJob within a C1 job: the real programs and their environments."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from people import Researcher, eventually, operator

pytestmark = pytest.mark.slurm

TOOLS = ("hyperqueue>=0.27", "qcg-pilotjob>=0.14.2")
INSTALL_S = 300

SUBMITS = """#!/bin/bash
qslurm submit env.sh --backend qx --parsable > $1.job
held=$(qslurm submit env.sh --backend qx --hold --parsable)
qslurm cancel $held && echo $held > $1.cancelled
"""

HYPERQUEUE = """
from hyperqueue import Job, LocalCluster

with LocalCluster() as cluster:
    cluster.start_worker()
    client = cluster.client()
    job = Job()
    job.program(["bash", "submits.sh", "hq"], stdout="hq.out", stderr="hq.err")
    client.wait_for_jobs([client.submit(job)])
"""

PILOT_JOB = """
from qcg.pilotjob.api.job import Jobs
from qcg.pilotjob.api.manager import LocalManager

manager = LocalManager(["--resources", "local", "--nodes", "1"])
jobs = Jobs().add(name="submits", exec="bash", args=["submits.sh", "pm"], stdout="pm.out", stderr="pm.err")
manager.wait4(manager.submit(jobs))
manager.finish()
"""


@pytest.fixture
def tools(testbed) -> Path:
    """A folder with both programs, which are not part of the project and are downloaded once."""
    folder = testbed.layout.state / "workflow-tools"
    if not folder.is_dir():
        install = (
            str(testbed.layout.python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--target",
            str(folder),
            *TOOLS,
        )
        done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        if done.returncode != 0:
            pytest.skip(f"HyperQueue and QCG-PilotJob can't be fetched here: {done.stderr[-300:]}")
    return folder


def test_a_job_of_a_tool_says_whose_it_is_takes_nothing_along_and_can_be_cancelled(testbed, tools):
    operator(testbed, "partition", "enable", "p_qx")
    alice = Researcher(testbed)
    alice.writes("env.sh", "#!/bin/bash\nenv\n")
    for name, text in (("submits.sh", SUBMITS), ("hyper.py", HYPERQUEUE), ("pilot.py", PILOT_JOB)):
        alice.writes(name, text)
    for left in ("hq.job", "pm.job", "hq.cancelled", "pm.cancelled", "tools.sh.out"):
        (alice.folder / left).unlink(missing_ok=True)
    python = testbed.layout.python
    script = f"export PYTHONPATH={tools} TMPDIR=$PWD\n{python} hyper.py\n{python} pilot.py\n"
    here = alice.sbatches("tools.sh", f"#!/bin/bash\n{script}")
    eventually(
        lambda: "JobState=COMPLETED" in testbed.c1(("scontrol", "show", "job", str(here))).stdout,
        "the tools to be through",
    )
    said = (alice.folder / "tools.sh.out").read_text()
    for tool, system in (("hq", "hyperqueue"), ("pm", "qcg-pilotjob")):
        assert (alice.folder / f"{tool}.job").exists(), said
        job = (alice.folder / f"{tool}.job").read_text().strip()
        origin = alice.gets("show", job)["origin"]
        assert origin.startswith(f"{system}:snellius:"), origin
        assert origin.endswith(f"@{here}:qs_alice"), origin
        assert alice.ends_as(int(job)) == "COMPLETED"
        log = alice.types("logs", job).stdout
        assert f"SLURM_JOB_ID={job}" in log
        assert [line for line in log.splitlines() if line.startswith(("HQ", "QCG", "PYTHONPATH"))] == []
        assert alice.ends_as(int((alice.folder / f"{tool}.cancelled").read_text())) == "CANCELLED"
