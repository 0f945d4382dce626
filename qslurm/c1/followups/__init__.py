"""Jobs on C1 that wait, held, for a job on C2."""
