"""A center's way to C2: slurmrestd and the job manager, directly or through the center's agent."""
