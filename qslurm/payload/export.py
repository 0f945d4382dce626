"""Which variables of the submitting machine go along with a job: none but those that are named."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from qslurm.errors import InvalidInputError

NOTHING = ("NONE", "NIL")
"""Sbatch's words for a clean environment, which every job has here anyway. It takes them, and ALL, in any case."""

HINT = 'Name each variable: "NAME" takes its value from here, "NAME=value" gives it one; commas between them.'

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def parse_export(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that a text names, with their values; InvalidInputError for one that has none.

    Sbatch's `ALL` is refused: paths, modules and credentials of a center's machine mean nothing on C2, or too much.
    """
    found: dict[str, str] = {}
    for word in _words(text):
        name, equals, value = word.partition("=")
        if not equals and name.upper() in NOTHING and name not in environ:
            continue
        if not equals and name.upper() == "ALL" and (name == "ALL" or name not in environ):
            raise InvalidInputError("A job does not take all of this machine's environment to C2.", hint=HINT)
        if not _NAME.fullmatch(name):
            raise InvalidInputError(f"{name!r} can't be the name of a variable.", hint=HINT)
        if not equals and name not in environ:
            raise InvalidInputError(f"The variable {name} is not set here.", hint=HINT)
        found[name] = value if equals else environ[name]
    return found


def _words(text: str) -> list[str]:
    """The parts between commas; quotes keep a comma within a value."""
    reader = shlex.shlex(text, posix=True)
    reader.whitespace, reader.whitespace_split, reader.commenters = ",", True, ""
    try:
        return list(reader)
    except ValueError as error:
        raise InvalidInputError(f"{text!r} can't be read: {str(error).lower()}.", hint=HINT) from error
