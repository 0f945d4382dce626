"""Reads circuits: cQASM 3, cQASM 1 and OpenQASM; what they measure, and whether they can run."""
