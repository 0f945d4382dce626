"""The job manager: the HTTP service for a center's results, logs and changes."""
