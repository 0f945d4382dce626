"""Writes a new configuration file, with every setting documented."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qslurm.c1.config.file_sections import check_platform, checked, struct_of
from qslurm.c1.config.platforms import refuse_shared_agents
from qslurm.c1.config.settings import PLATFORM_SECTIONS, SECTIONS, Setting, section_of, settings_of
from qslurm.errors import InvalidInputError
from qslurm.system.atomic_file import write_atomically

Values = Mapping[str, Mapping[str, Any]]
"""Values by section, then by name."""

_HEAD = """\
# qslurm: this center's access to C2, and defaults of its jobs. This file holds no secret; the token is in its own file.
# Commented settings show examples. An environment variable (in brackets) takes precedence over the setting.
# Check it with `qslurm doctor`.
"""

_SECTIONS = {
    "c2": "Access to C2.",
    "job": "Defaults of jobs.",
    "agent": "The center's agent, which holds the token for its users. Without one, commands connect to C2 directly.",
}

_PLATFORM_DOCS = {
    "": "Access to platform {}.",
    "agent": "The agent for {0}, if it has one: `systemctl enable --now qslurm-agent@{0}`.",
    "job": "Defaults of jobs for {}, where they differ from [job].",
}

_FURTHER_PLATFORMS = """
# Further platforms are tables of the same form, each with a token of its own, and with [platform.tuna.agent] and
# [platform.tuna.job] where it needs them; [c2] is the platform called c2. `qslurm submit --platform tuna` goes there,
# and `qslurm center init --platform tuna=URL` writes all of its settings.
# [platform.tuna]
# url = "https://tuna.example.org/slurm"
# results_url = "https://tuna.example.org/qslurm"
# token_file = "/etc/qslurm/token-tuna"
"""


def config_text(values: Values) -> str:
    """The file's text; ConfigError for an unknown setting or a value of the wrong type.

    A platform with at least one setting gets all of its tables; without further platforms there is an example.
    """
    for section, held in values.items():
        if section not in SECTIONS:
            check_platform(section.split(".")[1], "the options")
        checked(struct_of(section), section, held, "the options")
    refuse_shared_agents({section: dict(held) for section, held in values.items()})
    text = _HEAD + "".join(_section(section, values.get(section, {})) for section in SECTIONS)
    platforms = dict.fromkeys(section.split(".")[1] for section in values if section not in SECTIONS)
    for name in platforms:
        for table in PLATFORM_SECTIONS:
            section = section_of(name, table)
            text += _section(section, values.get(section, {}))
    return text if platforms else text + _FURTHER_PLATFORMS


def write_config(path: Path, text: str, *, force: bool) -> None:
    """Write the file, world-readable; InvalidInputError if it exists or cannot be written."""
    if os.access(path, os.F_OK) and not force:
        raise InvalidInputError(
            f"The configuration file {path} already exists.",
            hint="Use --force to overwrite it, or --file to write elsewhere.",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode(), mode=0o644)
    except OSError as error:
        raise InvalidInputError(
            f"Cannot write the configuration file {path}: {error.strerror}.",
            hint="Run as root, or use --file to write a file of your own.",
        ) from error


def toml(value: object) -> str:
    """Format a value as TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {toml(one)}" for name, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    # JSON's strings, numbers and booleans are valid TOML, except DEL, which must be escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _section(name: str, held: Mapping[str, Any]) -> str:
    lines = [f"\n# {_about(name)}", f"[{name}]"]
    for setting in settings_of(name, struct_of(name)):
        if name not in SECTIONS:
            platform = name.split(".")[1]
            setting = replace(  # noqa: PLW2901
                setting, default=_of(platform, setting.default), example=_of(platform, setting.example)
            )
        lines += _lines(setting, held)
    return "\n".join(lines) + "\n"


def _of(platform: str, value: object) -> object:
    """An example value for an additional platform, which needs its own agent and token."""
    if not isinstance(value, str):
        return value
    value = re.sub(r"(/qslurm-agent|/qslurm/token)\b", rf"\1-{platform}", value)
    return value.replace(":8043", ":8044")


def _about(section: str) -> str:
    if section in SECTIONS:
        return _SECTIONS[section]
    _, platform, *table = section.split(".")
    return _PLATFORM_DOCS["".join(table)].format(platform)


def _lines(setting: Setting, held: Mapping[str, Any]) -> Iterator[str]:
    where = f" [{setting.env}]" if setting.env and setting.section in SECTIONS else ""
    usual = f" Default: {toml(setting.default)}." if setting.default not in ("", None, [], {}) else ""
    yield f"# {setting.doc}{usual}{where}"
    if setting.name in held:
        yield f"{setting.name} = {toml(held[setting.name])}"
    else:
        yield f"#{setting.name} = {toml(setting.example)}"
