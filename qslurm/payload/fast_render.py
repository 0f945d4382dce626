"""Renders templates that use only names, `if` and `include`, as the shipped ones do, without importing Jinja (50 ms).

The text is exactly Jinja's. For other templates, and for errors, NeedsJinjaError makes the caller use Jinja.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

DEPTH = 8
"""Maximum include depth; Jinja reports endless recursion."""

LARGEST = 1024 * 1024
"""Maximum characters of a rendered text; beyond, Jinja checks."""

_TAG = re.compile(
    r"(?:^[^\S\n]+(?=\{[%#]))?(\{\{.*?\}\}|\{%.*?%\}\n?|\{#.*?#\}\n?)", re.DOTALL | re.MULTILINE
)
_COMMENT = re.compile(r"\{#(?![-+])(?:(?!#\}).)*?(?<!\+)(?P<strip>-?)#\}\n?", re.DOTALL)
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_VALUE = re.compile(rf"\{{\{{\s*(?P<name>{_NAME})\s*\}}\}}")
_IF = re.compile(rf"\{{%\s+if\s+(?P<name>{_NAME})(?P<given>\s+is\s+not\s+none)?\s+%\}}\n?")
_ENDIF = re.compile(r"\{%\s+endif\s+%\}\n?")
_INCLUDE = re.compile(r'\{%\s+include\s+"(?P<file>[A-Za-z0-9_][A-Za-z0-9_.-]*)"\s+%\}\n?')
_KEYWORDS = frozenset(
    {"and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None"}
)
_JINJA_NAMES = frozenset(
    {"range", "dict", "lipsum", "cycler", "joiner", "namespace", "self", "loop", "caller", "varargs"}
)
"""Names that Jinja defines."""


class NeedsJinjaError(Exception):
    """The template needs Jinja."""


class Substitution(NamedTuple):
    """{{ name }}"""

    name: str


class IfBlock(NamedTuple):
    """{% if name %}, or {% if name is not none %}."""

    name: str
    given: bool
    parts: Sequence[Part]


Part = str | Substitution | IfBlock


def render_plain(
    path: Path, folders: Sequence[Path], names: Mapping[str, Any], escape: Callable[[object], str]
) -> str:
    """Render a template, passing values through `escape`. Includes are searched in `folders`."""
    text = "".join(_texts(read_plain(path, folders), names, escape))
    if len(text) > LARGEST:
        raise NeedsJinjaError
    return text


def names_in_plain(path: Path, folders: Sequence[Path]) -> frozenset[str]:
    """The names used by a template and its includes."""
    return frozenset(_names(read_plain(path, folders)))


def read_plain(path: Path, folders: Sequence[Path], depth: int = 0) -> list[Part]:
    """A template's parts, including its includes'."""
    if depth > DEPTH:
        raise NeedsJinjaError
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NeedsJinjaError from error
    found: list[Part] = []
    stack: list[list[Part]] = [found]
    at, strip = 0, False
    for match in _TAG.finditer(source):
        stack[-1].append(_literal(source[at : match.start()], strip=strip))
        at, strip = match.end(), False
        tag = match[1]
        if comment := _COMMENT.fullmatch(tag):
            strip = bool(comment["strip"])
        elif value := _VALUE.fullmatch(tag):
            stack[-1].append(Substitution(_own(value["name"])))
        elif condition := _IF.fullmatch(tag):
            inner: list[Part] = []
            stack[-1].append(IfBlock(_own(condition["name"]), bool(condition["given"]), inner))
            stack.append(inner)
        elif _ENDIF.fullmatch(tag) and len(stack) > 1:
            stack.pop()
        elif included := _INCLUDE.fullmatch(tag):
            stack[-1] += read_plain(_found(included["file"], folders), folders, depth + 1)
        else:
            raise NeedsJinjaError
    if len(stack) > 1:
        raise NeedsJinjaError
    found.append(_literal(source[at:], strip=strip))
    return found


def _literal(text: str, *, strip: bool) -> str:
    if text.endswith("{") or any(opening in text for opening in ("{{", "{%", "{#")):
        raise NeedsJinjaError
    return text.lstrip() if strip else text


def _own(name: str) -> str:
    if name in _KEYWORDS or name in _JINJA_NAMES:
        raise NeedsJinjaError
    return name


def _found(name: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if (path := folder / name).is_file():
            return path
    raise NeedsJinjaError


def _texts(parts: Sequence[Part], names: Mapping[str, Any], escape: Callable[[object], str]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif part.name not in names:
            raise NeedsJinjaError  # Jinja's error has the line
        elif isinstance(part, Substitution):
            yield escape(names[part.name])
        elif names[part.name] is not None if part.given else names[part.name]:
            yield from _texts(part.parts, names, escape)


def _names(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Substitution):
            yield part.name
        elif isinstance(part, IfBlock):
            yield part.name
            yield from _names(part.parts)
