"""From a file and its options to jobs on C2."""
