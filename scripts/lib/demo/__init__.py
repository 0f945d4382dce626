"""The demo: three quantum jobs cross two real Slurm clusters, and the story is told as it happens."""
