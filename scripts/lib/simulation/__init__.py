"""Synthetic days of a quantum backend: who asks for what, and how a policy serves them."""
