"""Benchmarks of qslurm, each compared with a peer in the same run, because machines differ and are noisy."""
