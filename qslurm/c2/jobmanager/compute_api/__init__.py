"""The part of Quantum Inspire's Compute API that its clients use, served by the job manager."""
