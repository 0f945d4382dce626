"""Synthetic days of a quantum backend, and how policies serve them."""
