"""What people import: `Center`, `Job` and `Result`, also as `from qslurm import Center`."""
