"""What executes jobs: the interface for plug-ins, classical and quantum runtimes."""
