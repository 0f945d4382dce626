"""Replaces what cannot be encoded: bytes that are not UTF-8 in file names, arguments and variables (surrogates, PEP
383), and characters that a terminal's encoding lacks.
"""

from __future__ import annotations

import codecs
import io
import re

REPLACE = "qslurm"
"""The name of the codec error handler."""

_SURROGATE = re.compile("[\\ud800-\\udfff]")

_ALIKE = dict(zip("█▉▊▋▌▍▎▏…▁▂▃▄▅▆▇", "#####   ~_.-=+*%", strict=True))
"""Replacements of our own characters, of equal width."""


def without_surrogates(text: str) -> str:
    """Replace each byte that is not UTF-8 by U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def replace_unencodable(stream: object) -> None:
    """Make stdout or stderr replace characters that they cannot encode."""
    if not isinstance(stream, io.TextIOWrapper):
        return
    codecs.register_error(REPLACE, _replaced)
    ascii_only = (
        codecs.lookup(stream.encoding).name == "ascii"
    )  # Python's default if the locale sets no encoding
    stream.reconfigure(encoding="utf-8" if ascii_only else None, errors=REPLACE)


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    if codecs.lookup(error.encoding).name == "utf-8":  # surrogates
        return "\N{REPLACEMENT CHARACTER}".encode() * len(letters), error.end
    return "".join(_ALIKE.get(letter, "?") for letter in letters), error.end
