"""The demo: three quantum jobs from one real Slurm cluster to another."""
