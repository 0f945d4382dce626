"""Converts configuration to structs, with errors that name the key and suggest the nearest known one."""

from __future__ import annotations

from typing import Any, TypeVar, get_args, get_origin

import msgspec

from qslurm.errors import ConfigError

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def checked_struct(values: dict[str, Any], kind: type[_Struct], name: str, where: str = "") -> _Struct:
    """Convert `values` to a struct; ConfigError for invalid values and unknown keys.

    For messages, `name` is the file and `where` the prefix of each key, such as "options.".
    """
    _refuse_unknown_keys(values, kind, where, name)
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        words, _, path = str(error).partition(" - at ")
        key = where + path.strip("`").removeprefix("$").removeprefix(".")
        raise ConfigError(
            f"{name}: {key}: {words[0].lower()}{words[1:]}." if key else f"{name}: {error}."
        ) from error


def _refuse_unknown_keys(values: dict[str, Any], kind: type[msgspec.Struct], where: str, name: str) -> None:
    """ConfigError for a key that the struct (or one within it) does not have."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in values.items():
        if key not in fields:
            from difflib import get_close_matches

            near = get_close_matches(key, fields, n=1, cutoff=0.5)
            valid = f"Valid here: {', '.join(sorted(fields)) or 'none'}."
            raise ConfigError(
                f"{name}: unknown key {where + key!r}.", hint=f"Did you mean {near[0]!r}?" if near else valid
            )
        inner = fields[key]
        items = [value] if isinstance(value, dict) else value if isinstance(value, list) else []
        if get_origin(inner) is list:
            inner = get_args(inner)[0]
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            for item in items:
                if isinstance(item, dict):
                    _refuse_unknown_keys(item, inner, f"{where}{key}.", name)
