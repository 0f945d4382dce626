"""Formats log lines as logfmt (`key=value`), without heavy imports, for hooks.

    time=2026-11-22T12:26:00.123Z level=info part=gate event="job released" job=12 center=snellius

Values are escaped, so that they stay one value in one line and contain no terminal control sequences.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress

LONGEST = 4000
"""Maximum characters of a value; longer values are truncated and marked."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+,()[]*!?;&#~^$<>|'")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

Field = str | int | float | bool | None


def line(part: str, level: str, event: str, fields: Mapping[str, Field], *, now: float | None = None) -> str:
    """A log line with newline. `part` is the component; None and "" fields are omitted."""
    at = time.time() if now is None else now
    head = {"time": _moment(at), "level": level, "part": part, "event": event}
    return pairs(head | dict(fields)) + "\n"


def pairs(fields: Mapping[str, Field]) -> str:
    """The fields as `key=value`, separated by spaces."""
    return " ".join(f"{name}={value(one)}" for name, one in fields.items() if one is not None and one != "")


def value(one: Field) -> str:
    """Format a value, quoted as in JSON unless it is a plain word."""
    if isinstance(one, bool):
        return "true" if one else "false"
    if isinstance(one, float):
        return f"{one:.6g}"
    text = str(one)
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} … ({len(text)} characters)"
    if text and _PLAIN.issuperset(text):
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def say(part: str, event: str, level: str = "info", **fields: Field) -> None:
    """Write a line to stderr, for systemd; write errors are ignored."""
    if sys.stderr is None:
        return
    with suppress(OSError):
        sys.stderr.write(line(part, level, event, fields))
        sys.stderr.flush()


def _moment(at: float) -> str:
    whole, milliseconds = divmod(round(at * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03d}Z"


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    number = ord(character)
    if number > 0xFFFF:  # a surrogate pair, as in JSON
        number -= 0x10000
        return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
    return f"\\u{number:04x}"
