"""What executes jobs: the plug-in interface, and the classical and quantum runtimes."""
