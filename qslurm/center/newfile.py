"""Writes a configuration for a center that has none: every setting with its meaning, those that were said set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qslurm.atomic import write_atomically
from qslurm.center.configfile import checked
from qslurm.center.settings import SECTIONS, Setting, settings
from qslurm.errors import InvalidInputError

Values = Mapping[str, Mapping[str, Any]]
"""By section, then by name."""

_HEAD = """\
# qslurm: where C2 is, and how this center's jobs go there. There is no secret in this file; the token has its own.
# What is commented out shows an example; a setting of the environment (in brackets) wins over the one here.
# `qslurm doctor` says whether it works.
"""

_SECTIONS = {
    "c2": "The way to C2.",
    "job": "What a job is given when its submitter does not say.",
    "agent": "The center's agent, which holds the token for its users; without one commands talk to C2 themselves.",
}


def config_text(values: Values) -> str:
    """The file's text; ConfigError for a name that is no setting, or a value of the wrong kind."""
    for section, held in values.items():
        checked(SECTIONS[section], section, held, "the options")
    return _HEAD + "".join(_section(section, values.get(section, {})) for section in SECTIONS)


def write_config(path: Path, text: str, *, replace: bool) -> None:
    """Put the file there, readable for all; InvalidInputError if there is one already, or it can't be written."""
    if path.exists() and not replace:
        raise InvalidInputError(
            f"There is a configuration in {path} already.",
            hint="--force replaces it; --file writes elsewhere.",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode(), mode=0o644)
    except OSError as error:
        raise InvalidInputError(
            f"The configuration can't be written to {path}: {error.strerror}.",
            hint="Run this as root, or write your own with --file.",
        ) from error


def toml(value: object) -> str:
    """A value as TOML has it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {toml(one)}" for name, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    # JSON's strings, numbers and booleans are TOML's, but for DEL, which TOML wants escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _section(name: str, held: Mapping[str, Any]) -> str:
    lines = [f"\n# {_SECTIONS[name]}", f"[{name}]"]
    for setting in settings():
        if setting.section == name:
            lines += _lines(setting, held)
    return "\n".join(lines) + "\n"


def _lines(setting: Setting, held: Mapping[str, Any]) -> Iterator[str]:
    where = f" [{setting.env}]" if setting.env else ""
    usual = f" Default: {toml(setting.default)}." if setting.default not in ("", None, [], {}) else ""
    yield f"# {setting.doc}{usual}{where}"
    if setting.name in held:
        yield f"{setting.name} = {toml(held[setting.name])}"
    else:
        yield f"#{setting.name} = {toml(setting.example)}"
