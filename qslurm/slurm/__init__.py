"""Slurm as qslurm knows it: slurmrestd, squeue's output, states and reasons."""
