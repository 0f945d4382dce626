"""The center's agent: holds the token, submits users' jobs, and tracks who owns each job."""
