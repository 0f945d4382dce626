"""slurmrestd's client: knows HTTP and Slurm, and nothing of quantum computing."""

from qslurm.slurmrest.client import SlurmrestClient, Submitted
from qslurm.slurmrest.jobinfo import JobInfo

__all__ = ["JobInfo", "SlurmrestClient", "Submitted"]
