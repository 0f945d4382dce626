"""A bridge between two Slurm clusters: an HPC center's and a quantum platform's."""

__version__ = "0.1.0"
