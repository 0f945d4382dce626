"""Classical runtimes that are started ahead of jobs, with numpy imported."""
