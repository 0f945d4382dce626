"""Reads lines as logfmt readers do: keys, `=`, and a plain word or a string in quotes as JSON has them."""

from __future__ import annotations

import json
import re

_PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\\x00-\x1f]|\\.)*"|[^\s"=\\]+)(?: |$)')


def read(line: str) -> dict[str, str]:
    """The pairs of a line; AssertionError if anything in it is none."""
    found: dict[str, str] = {}
    at = 0
    while at < len(line):
        pair = _PAIR.match(line, at)
        assert pair is not None, f"no pair at {line[at:]!r} of {line!r}"
        name, text = pair.groups()
        assert name not in found, f"{name} stands twice in {line!r}"
        found[name] = json.loads(text) if text.startswith('"') else text
        at = pair.end()
    return found


def read_all(text: str) -> list[dict[str, str]]:
    """Every line, each with when, who and what."""
    lines = [read(line) for line in text.splitlines()]
    for one in lines:
        assert list(one)[:4] == ["time", "level", "part", "event"], one
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["time"])
        assert one["level"] in {"debug", "info", "warning", "error"}
    return lines
