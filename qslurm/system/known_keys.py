"""Typos in configuration files: an unknown key is refused with the nearest one that is known."""

from __future__ import annotations

from typing import Any, get_args, get_origin

import msgspec

from qslurm.errors import ConfigError


def refuse_unknown_keys(values: dict[str, Any], kind: type[msgspec.Struct], where: str, name: str) -> None:
    """ConfigError for a key that the struct (or one within it) does not have.

    `where` goes before the key, e.g. "gate.", and `name` is what the file is called.
    """
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
                    refuse_unknown_keys(item, inner, f"{where}{key}.", name)
