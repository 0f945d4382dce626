"""Tasks and their executions: admission, states, ends, limits."""
