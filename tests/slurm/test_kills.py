"""Each daemon is killed once during a job; the job completes as usual."""

import pytest
from people import SLOW_HYBRID, Researcher, c2_nodes, eventually, operator, slurmctld_has_saved

pytestmark = pytest.mark.slurm

EXECUTIONS = 30


@pytest.fixture
def alice(testbed):
    operator(testbed, "partition", "enable", "p_qx")
    return Researcher(testbed)


def start_of_a_long_job(alice, pause_s=0.1):
    """A hybrid job that has executed a few of its circuits."""
    alice.writes("long.py", SLOW_HYBRID.format(executions=EXECUTIONS, pause_s=pause_s))
    job_id = alice.submits("long.py", "--backend", "qx")
    eventually(
        lambda: "executed 3" in alice.types("logs", str(job_id)).stdout, f"job {job_id} to be in its middle"
    )
    return job_id


@pytest.mark.parametrize(
    "daemon",
    ["dispatcher", "gate", "jobmanager", "slurmrestd", "slurmctld-c2", "slurmd-c2", "slurmdbd", "mariadbd", "munged-c2",
     "slurmctld-c1", "slurmd-c1", "munged-c1"],
)  # fmt: skip
def test_a_job_survives_the_death_of(daemon, alice):
    job_id = start_of_a_long_job(alice, pause_s=0.4 if daemon == "slurmctld-c2" else 0.1)
    if daemon == "slurmctld-c2":
        slurmctld_has_saved(alice.testbed, job_id)
    alice.testbed.kill(daemon)
    alice.testbed.up()
    assert alice.ends_as(job_id) == "COMPLETED"
    results = alice.gets("results", str(job_id))
    assert results["final_result"] == {"shots": EXECUTIONS * 100, "n": EXECUTIONS}
    assert results["executions"] == EXECUTIONS, "each circuit was executed once"
    assert "drain" not in c2_nodes(alice.testbed)
