"""The Python API: `from qslurm import Center, Job, Result, Session`."""
