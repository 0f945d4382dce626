"""Queries about jobs: list, show, wait, results, logs, cancel."""
