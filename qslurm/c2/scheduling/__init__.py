"""Scheduling of executions at a backend: queues, policies, fair shares, sessions, reservations."""
