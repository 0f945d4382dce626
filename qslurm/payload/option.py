"""The declaration of an option, at its field of JobSpec.

From it come the flags of `qslurm submit` and `qslurm session`, the `#QSLURM` lines in a job's file, the keyword
arguments of the Python API, and the docs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

Place = Literal["submit", "session", "file", "python", "python session"]
"""Where an option is allowed: two commands, a `#QSLURM` line, Center.submit and Center.map, Center.session."""

JOB: tuple[Place, ...] = ("submit", "file", "python")
JOB_AND_SESSION: tuple[Place, ...] = ("submit", "session", "file", "python", "python session")

Type = Literal["text", "flag", "whole", "seconds", "texts", "values"]
"""texts: NAME=VALUES, may be repeated. values: the same, as a mapping of NAME=VALUE."""

MOST_SECONDS = 1e9


class Option(msgspec.Struct, frozen=True):
    """The declaration of an option, beside its field's type and default.

    `name` is its name in commands (default: the field's), `short` sbatch's letter, `default` the text for its default
    in the help, `least` the minimum of an integer. `slurm` is its field in slurmrestd's job description; with
    `decides_start` a template must not leave that field out. With `may_be_empty` an empty text is a value.
    """

    help: str
    name: str = ""
    short: str = ""
    metavar: str = "NAME"
    default: str = ""
    places: tuple[Place, ...] = JOB
    least: int = 0
    slurm: str = ""
    decides_start: bool = False
    may_be_empty: bool = False


class Declared(msgspec.Struct, frozen=True):
    """An option with its field, name and type."""

    field: str
    name: str
    type: Type
    option: Option

    @property
    def keywords(self) -> tuple[str, ...]:
        """Its names in Python: that of the command, and that of the field."""
        return tuple(dict.fromkeys((self.name.replace("-", "_"), self.field)))

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be given several times."""
        return self.type in ("texts", "values")


@cache
def options_of(struct: type) -> dict[str, Declared]:
    """All options that are declared in a class, by name."""
    found = {}
    for field, hint in get_type_hints(struct, include_extras=True).items():
        for option in (one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Option)):
            name = option.name or field.replace("_", "-")
            found[name] = Declared(field, name, _type(get_args(hint)[0]), option)
    return found


def _type(hint: Any) -> Type:
    if hint is bool:
        return "flag"
    if get_origin(hint) is tuple:
        return "texts"
    if get_origin(hint) is Mapping:
        return "values"
    types: dict[object, Type] = {str: "text", int: "whole", float: "seconds"}
    return types[get_args(hint)[0]]  # X | None
