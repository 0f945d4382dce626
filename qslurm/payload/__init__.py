"""What travels to C2: the job description, its batch script, and the envelope in it."""
