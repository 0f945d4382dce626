from __future__ import annotations


class TestbedError(Exception):
    """The testbed can't do what was asked; the message says why and what to do."""

    __test__ = False  # not a test class, whatever its name
