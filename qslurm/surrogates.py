"""Bytes that are no UTF-8, as Python has them in texts: in a file's name, an argument, a variable (PEP 383)."""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\\ud800-\\udfff]")


def without_surrogates(text: str) -> str:
    """The text as JSON, C2 and a terminal take it: each byte that is no UTF-8 as U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
