"""The limit for the nesting of final results: JSON readers have limits of their own, and some crash beyond them."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any

NESTING_LIMIT = 100
"""Levels of lists and dicts, including the outermost."""

TOO_DEEP = f"nested deeper than {NESTING_LIMIT} levels"

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_DEEPER = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def is_too_deep(value: Any) -> bool:
    """Whether lists and dicts are nested deeper than NESTING_LIMIT."""
    level = [value]
    for _ in range(NESTING_LIMIT):
        nested: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                nested += one.values()
            elif isinstance(one, list | tuple):
                nested += one
        level = [one for one in nested if isinstance(one, dict | list | tuple)]
        if not level:
            return False
    return True


def text_is_too_deep(text: str) -> bool:
    """The same for JSON text, by its brackets alone. Invalid JSON gives any answer."""
    brackets = _STRING.sub(b"", text.encode(errors="surrogatepass")).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_DEEPER.__getitem__, brackets)), default=0) > NESTING_LIMIT
