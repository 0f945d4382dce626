"""Lets libqasm 1.2 read gates that only QX knows: Z90, mZ90 and U.

opensquirrel 0.9 pins libqasm 1.2.1; QX contains a newer libqasm. Only libqasm's analysis sees the program with
substitutes, gates with the same kinds of operands and parameters. QX executes the original program.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_UNKNOWN = re.compile(
    r"//[^\n]*|/\*.*?(?:\*/|\Z)|'''.*?(?:'''|\Z)|\b(?P<name>Z90|mZ90)\b|\b(?P<u>U[ \t]*\()", re.DOTALL
)
_INSTEAD = {"Z90": "X90", "mZ90": "mX90"}
_U, _AXIS = "Rn(", "1,1,"  # Rn has five parameters, U three
_RN = re.compile(r"'Rn' expects 5 parameters, but got (\d+)")


@lru_cache(maxsize=1)
def are_needed() -> bool:
    """Whether the installed libqasm knows fewer gates than QX."""
    from libqasm import V3xAnalyzer

    return "errors" in V3xAnalyzer("3.0").analyze_string_to_json("version 3.0; qubit q; Z90 q")


def with_substitutes(program: str) -> str:
    """The program with such gates replaced; line numbers do not change."""

    def instead(found: re.Match[str]) -> str:
        if found["name"]:
            return _INSTEAD[found["name"]]
        return f"{_U}{_AXIS}" if found["u"] else found[0]

    return _UNKNOWN.sub(instead, program)


def undone(error: dict[str, Any], program: str) -> dict[str, Any]:
    """Translate libqasm's error about a rewritten program to the original."""
    start = error["range"]["start"]
    column, name = int(start["character"]), ""
    for found in _UNKNOWN.finditer(program):
        shown = found["name"] or found["u"]
        line = program.count("\n", 0, found.start()) + 1
        if not shown or line != int(start["line"]):
            continue
        at = found.start() - program.rfind("\n", 0, found.start())
        if at < column and found["u"]:
            column = max(at, column - (len(_U + _AXIS) - len(shown)))
        name = shown.rstrip("( \t") if at == column else name
    message = _RN.sub(
        lambda found: f"'Rn' expects 3 parameters, but got {int(found[1]) - 2}", error["message"]
    )
    if name:
        message = message.replace(f"'{_INSTEAD.get(name, 'Rn')}'", f"'{name}'")
    return {**error, "message": message, "range": {**error["range"], "start": {**start, "character": column}}}


def original_name(code: str) -> str:
    """The name of the gate that was replaced in a statement, "" if none was."""
    found = _UNKNOWN.search(code) if are_needed() else None
    return "" if found is None else found["name"] or ("U" if found["u"] else "")
