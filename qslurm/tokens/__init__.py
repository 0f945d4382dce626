"""Tokens as their holders see them: files, claims, checks."""
