"""Lanes: memory that a job and a quantum runtime share, for circuits in microseconds."""
