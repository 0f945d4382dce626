"""The plug-in for a quantum computer that speaks Quantum Inspire's hardware protocol."""
