"""What users ask about their jobs: list, show, wait, results, logs, cancel."""
