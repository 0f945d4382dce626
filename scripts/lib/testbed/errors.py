from __future__ import annotations


class TestbedError(Exception):
    """The testbed cannot do this; the message names the cause and the fix."""

    __test__ = False  # not a test class, whatever its name
