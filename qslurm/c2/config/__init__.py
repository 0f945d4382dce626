"""C2's configuration file, one module a section."""
