"""The payload of a job: its description, its batch script, and the envelope in it."""
