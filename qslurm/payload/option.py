"""How an option of a job is declared: once, at its field of JobSpec. All who take options are made from that.

`qslurm submit` and `qslurm session` take them as flags, a job's file in `#QSLURM` lines, Python programs as keyword
arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

Place = Literal["submit", "session", "file", "python", "python session"]
"""Where an option may stand: two commands, a `#QSLURM` line, Center.submit and Center.map, Center.session."""

JOB: tuple[Place, ...] = ("submit", "file", "python")
LOOP: tuple[Place, ...] = ("submit", "session", "file", "python", "python session")
"""What a session takes as well."""

Type = Literal["text", "flag", "whole", "seconds", "texts", "values"]
"""texts: an option that may be repeated, NAME=VALUES each. values: the same as a mapping, NAME=VALUE each."""

MOST_SECONDS = 1e9


class Option(msgspec.Struct, frozen=True):
    """What is declared of an option, beside its field's type and default.

    `name` is what it is called in commands (default: the field's name), `short` sbatch's letter for it, `default` what
    holds without it, in words, `least` the least whole number. `slurm` is the field of slurmrestd's job description
    that it becomes; where it `decides_start` a template must not leave that out. One that `may_be_empty` means
    something as an empty text.
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
    """An option and its field."""

    field: str
    name: str
    type: Type
    option: Option

    @property
    def keywords(self) -> tuple[str, ...]:
        """What Python programs may call it: as the command does, or as the field is called."""
        return tuple(dict.fromkeys((self.name.replace("-", "_"), self.field)))

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be given several times."""
        return self.type in ("texts", "values")


@cache
def options_of(struct: type) -> dict[str, Declared]:
    """All options that are declared in a class, by their names."""
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
