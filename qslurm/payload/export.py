"""Selects the variables of the submitting host that are sent with a job: only those named."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from qslurm.errors import InvalidInputError

NOTHING = ("NONE", "NIL")
"""sbatch's words for a clean environment, the default here; accepted in any case, as is ALL."""

HINT = "Use a comma-separated list of NAME (with its value here) or NAME=value."

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def parse_export(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Parse --export; InvalidInputError for a variable that is not set.

    sbatch's `ALL` is refused: paths and modules of a center's host do not exist on C2, and credentials stay here.
    """
    found: dict[str, str] = {}
    for word in _words(text):
        name, equals, value = word.partition("=")
        if not equals and name.upper() in NOTHING and name not in environ:
            continue
        if not equals and name.upper() == "ALL" and (name == "ALL" or name not in environ):
            raise InvalidInputError("--export=ALL is not supported.", hint=HINT)
        if not _NAME.fullmatch(name):
            raise InvalidInputError(f"Invalid variable name {name!r}.", hint=HINT)
        if not equals and name not in environ:
            raise InvalidInputError(f"Variable {name} is not set.", hint=HINT)
        found[name] = value if equals else environ[name]
    return found


def _words(text: str) -> list[str]:
    """Split at commas; quoted commas are kept."""
    reader = shlex.shlex(text, posix=True)
    reader.whitespace, reader.whitespace_split, reader.commenters = ",", True, ""
    try:
        return list(reader)
    except ValueError as error:
        raise InvalidInputError(
            f"Invalid list of variables {text!r}: {str(error).lower()}.", hint=HINT
        ) from error
