"""The operating system: files, processes, sockets, logs. Knows nothing of Slurm or of circuits."""
