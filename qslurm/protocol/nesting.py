"""How deep a final result may be nested: each of its readers has a limit, and some end when they reach it."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any

MOST_NESTED = 100
"""Levels of lists and dicts, the outermost counted."""

TOO_DEEP = f"nested deeper than {MOST_NESTED} levels"

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_DEEPER = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def is_too_deep(value: Any) -> bool:
    """Whether lists and dicts are nested deeper than that."""
    level = [value]
    for _ in range(MOST_NESTED):
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
    """The same of JSON, without reading it: what can't be read is not judged."""
    brackets = _STRING.sub(b"", text.encode(errors="surrogatepass")).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_DEEPER.__getitem__, brackets)), default=0) > MOST_NESTED
