from __future__ import annotations

from collections.abc import Iterator

import pytest
from testbed import Testbed


@pytest.fixture
def other(shared_testbed: Testbed) -> Iterator[Testbed]:
    """A second instance beside the shared one, the test's own: not up yet, and down at the end."""
    testbed = Testbed(f"{shared_testbed.name}-two")
    testbed.down()
    try:
        yield testbed
    finally:
        testbed.down()
