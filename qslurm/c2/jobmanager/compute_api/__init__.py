"""Quantum Inspire's Compute API, as far as its clients use it: a plug-in of the job manager."""
