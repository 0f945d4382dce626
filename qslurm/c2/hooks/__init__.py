"""The prolog and epilog plugin: what Slurm runs when a job starts and ends."""
