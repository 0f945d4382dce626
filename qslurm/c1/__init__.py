"""C1, the HPC center: what its users and admins run."""
