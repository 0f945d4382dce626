from __future__ import annotations

from collections.abc import Iterator

import pytest
from testbed import Testbed


@pytest.fixture
def other(shared_testbed: Testbed) -> Iterator[Testbed]:
    """A second instance for one test; not started yet, and stopped at the end."""
    testbed = Testbed(f"{shared_testbed.name}-two")
    testbed.down()
    try:
        yield testbed
    finally:
        testbed.down()
