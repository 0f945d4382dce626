"""C2, the Slurm cluster beside the quantum platform: its hooks and services."""
