"""The plug-in for Quantum Inspire as a backend."""
