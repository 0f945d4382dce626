"""`qslurm doctor`: what is wrong with an installation, on C1, on C2, and on a classical node."""
