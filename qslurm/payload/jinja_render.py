"""Renders a template in Jinja's sandbox, with limits on time and size. Imports jinja2.

Templates may come from other users. Undefined names are errors. Jinja itself limits neither loops nor sizes.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from qslurm.errors import InvalidInputError
from qslurm.payload.templates import shipped_folder

MAX_SECONDS = 5.0
MAX_CHARACTERS = 16 * 1024 * 1024
"""Maximum characters of a rendered text; a script of 4 MiB, escaped as JSON, is well below."""

_MAX_REPEAT = 1_000_000
"""Maximum factor of a string or list, and maximum exponent."""


class _TooMuchError(Exception):
    """A limit was exceeded."""


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        sized = [side for side in (left, right) if isinstance(side, str | list | tuple)]
        counts = [side for side in (left, right) if isinstance(side, int)]
        if operator == "*" and sized and any(count * len(sized[0]) > _MAX_REPEAT for count in counts):
            raise _TooMuchError("a string or list grows too long")
        if operator == "**" and isinstance(right, int | float) and abs(right) > 1000:
            raise _TooMuchError("a number grows too large")
        if operator == "%" and isinstance(left, str):
            raise _TooMuchError("a string is formatted with %; use ~ instead")
        return super().call_binop(context, operator, left, right)


def render_file(
    path: Path,
    names: Mapping[str, Any],
    escape: Callable[[object], str],
    max_seconds: float = MAX_SECONDS,
) -> str:
    """Render a template, passing every expression through `escape`.

    InvalidInputError for its errors, with file and line. It may include files of its directory and shipped ones.
    """
    environment = _environment(path, escape)
    try:
        template = environment.get_template(path.name)
        return _run(template, names, max_seconds)
    except jinja2.TemplateSyntaxError as error:
        raise InvalidInputError(
            f"{error.filename or path}:{error.lineno}: invalid template: {_sentence(error.message)}"
        ) from error
    except jinja2.TemplateNotFound as error:
        raise InvalidInputError(f"{path}: included template {error.name} not found.") from error
    except jinja2.UndefinedError as error:
        raise InvalidInputError(
            f"{_where(error, path)}: {_sentence(error.message)}",
            hint=f"Defined: {', '.join(sorted(names))}. Use --set NAME=VALUE for others.",
        ) from error
    except _TooMuchError as error:
        raise InvalidInputError(f"{_where(error, path)}: the template exceeds a limit: {error}.") from error
    except RecursionError as error:
        raise InvalidInputError(f"{path}: the template includes or calls itself endlessly.") from error
    except InvalidInputError as error:
        raise InvalidInputError(f"{_where(error, path)}: {error.message}", hint=error.hint) from error
    except (
        jinja2.TemplateError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise InvalidInputError(f"{_where(error, path)}: {_sentence(error)}") from error
    except (OSError, UnicodeError) as error:
        raise InvalidInputError(f"{path}: invalid template: {_sentence(error)}") from error


def names_in(path: Path) -> frozenset[str] | None:
    """The names used by a template and its includes.

    None if they cannot be determined: an include is computed, or the template is invalid (rendering it says why).
    """
    environment = _environment(path, str)
    found: set[str] = set()
    seen: set[str] = set()
    todo: list[str | None] = [path.name]
    while todo:
        name = todo.pop()
        if name is None:
            return None
        if name in seen:
            continue
        seen.add(name)
        try:
            source, _, _ = _loader(path).get_source(environment, name)
            tree = environment.parse(source)
        except (jinja2.TemplateError, OSError, UnicodeError, RecursionError):
            return None
        found |= jinja2.meta.find_undeclared_variables(tree)
        todo += jinja2.meta.find_referenced_templates(tree)
    return frozenset(found)


def _loader(path: Path) -> jinja2.FileSystemLoader:
    return jinja2.FileSystemLoader([path.parent, shipped_folder()])


def _environment(path: Path, escape: Callable[[object], str]) -> _Environment:
    environment = _Environment(
        loader=_loader(path),
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: _finalized(value, escape),
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # finalize escapes, for JSON and the shell
    )
    environment.filters.pop("tojson")  # would encode twice; without it its use is an error with a line
    return environment


def _sentence(words: object) -> str:
    return f"{str(words).rstrip('.')}."


def _finalized(value: object, escape: Callable[[object], str]) -> str:
    if isinstance(value, jinja2.Undefined):
        return str(value)  # StrictUndefined raises here, with the name in its message
    return escape(value)


def _run(template: jinja2.Template, names: Mapping[str, Any], max_seconds: float) -> str:
    """Render piece by piece with limits on size and time, also inside loops without output."""
    deadline = time.monotonic() + max_seconds
    previous = sys.gettrace()

    def watch(frame: FrameType, event: str, _argument: object) -> Any:
        if not frame.f_code.co_filename.endswith(".j2"):
            return None
        if event == "line" and time.monotonic() > deadline:
            raise _TooMuchError(f"rendering took longer than {max_seconds:g} s")
        return watch

    pieces: list[str] = []
    size = 0
    sys.settrace(watch)
    try:
        for piece in template.generate(names):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_CHARACTERS:
                raise _TooMuchError(f"its output exceeds {MAX_CHARACTERS} characters")
    finally:
        sys.settrace(previous)
    return "".join(pieces)


def _where(error: BaseException, path: Path) -> str:
    """File and line of a template error, from Jinja's traceback."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(".j2")]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(path)
