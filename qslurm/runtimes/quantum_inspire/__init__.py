"""The plug-in for the Quantum Inspire platform as a backend."""
