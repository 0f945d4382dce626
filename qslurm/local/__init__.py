"""`qslurm run`: one job on this machine, without Slurm."""
