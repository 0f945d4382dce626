"""The classical part of a job on C2: its step, its confinement, and runtimes that are kept warm."""
