"""Benches: what qslurm costs, each in the same run as a peer, because machines differ and are noisy."""
