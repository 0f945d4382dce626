"""Classical runtimes that are started ahead, with numpy imported."""
