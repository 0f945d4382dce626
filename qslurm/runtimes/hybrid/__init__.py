"""Runs a hybrid file: on C2, in a session, or on a laptop."""
