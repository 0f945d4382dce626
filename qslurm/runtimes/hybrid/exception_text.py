"""Describes an exception of the user's code and its causes."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

MAX_CAUSES = 8
"""Of one exception; a chain can have any length."""

_MAX_LENGTH = 1000  # characters of a cause


def describe(error: BaseException) -> str:
    """Its type and message, as the last line of a traceback has them; notes come after that line."""
    alone = traceback.TracebackException(type(error), error, None)
    alone.__notes__ = []
    return list(alone.format_exception_only())[-1].strip()


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that caused it (or were being handled), the last first, as Python shows them (PEP 3134)."""
    seen = {id(error)}
    for _ in range(MAX_CAUSES):
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None or id(cause) in seen:
            return
        seen.add(id(cause))
        yield cause
        error = cause


def describe_with_causes(error: BaseException) -> str:
    """`describe` of it and of its causes, in one line."""
    return "".join(
        [describe(error), *(f", caused by {describe(cause)[:_MAX_LENGTH]}" for cause in causes(error))]
    )
