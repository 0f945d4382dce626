"""What an exception of the user's code says, and what it was raised because of."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

MOST_CAUSES = 8
"""Of one exception; a chain can have any length."""

_LONGEST = 1000  # characters of a cause


def what(error: BaseException) -> str:
    """Its type and its message, as the last line of a traceback has them; notes come after that line."""
    alone = traceback.TracebackException(type(error), error, None)
    alone.__notes__ = []
    return list(alone.format_exception_only())[-1].strip()


def causes(error: BaseException) -> Iterator[BaseException]:
    """What it was raised from, or while that was handled, the last first, as Python shows it (PEP 3134)."""
    seen = {id(error)}
    for _ in range(MOST_CAUSES):
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None or id(cause) in seen:
            return
        seen.add(id(cause))
        yield cause
        error = cause


def with_causes(error: BaseException) -> str:
    """`what` of it and of all that it was raised because of, in one line."""
    return "".join([what(error), *(f", caused by {what(cause)[:_LONGEST]}" for cause in causes(error))])
