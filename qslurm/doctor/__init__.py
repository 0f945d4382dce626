"""`qslurm doctor`: checks an installation on C1, on C2, and on a classical node."""
