"""A job's classical part on C2: its step, what confines it, and runtimes that are kept warm."""
