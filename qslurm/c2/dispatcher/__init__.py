"""The dispatcher: C2's task manager between jobs and quantum runtimes."""
