"""Parses a configuration file into checked sections; errors name the setting and the nearest valid one."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qslurm.c1.config.settings import (
    C2_PLATFORM,
    PLATFORM_SECTIONS,
    SECTIONS,
    AgentSettings,
    UserLimits,
    section_of,
    settings,
)
from qslurm.errors import ConfigError
from qslurm.system.bounded_read import read_bounded

FILE_VARIABLE = "QSLURM_CONFIG"
LARGEST = 1024 * 1024
"""Maximum size of a configuration file in bytes."""

PLATFORMS = "platform"
"""The table that holds the tables [platform.NAME]."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")

Sections = dict[str, dict[str, Any]]
"""A file's settings by section: `c2`, `job`, `agent`, `platform.tuna`, `platform.tuna.agent` …"""

_Section = TypeVar("_Section", bound=msgspec.Struct)


def read_file(file: Path, *, needed: bool) -> Sections:
    """Read and check a file's settings; empty for an optional file that does not exist.

    ConfigError for an unreadable file, an unknown setting, or a value of the wrong type.
    """
    sections = dict(_sections(_document(file, needed), file))
    for section, values in sections.items():
        _check_limits(section, values.get("users"), str(file))
        checked(struct_of(section), section, values, str(file))
    return sections


def _check_limits(section: str, users: object, where: str) -> None:
    """Check [agent.users.NAME] by name, so that errors name the table."""
    if struct_of(section) is AgentSettings and isinstance(users, dict):
        for name, values in users.items():
            if isinstance(values, dict):
                checked(UserLimits, f"{section}.users.{name}", values, where)


def checked(struct: type[_Section], section: str, values: Mapping[str, Any], where: str) -> _Section:
    """Convert a section's values to its struct; ConfigError names the setting, the place and the problem."""
    known = list(struct.__struct_fields__)
    for name in values:
        if name not in known:
            raise ConfigError(
                f"{where}: unknown setting {name} under [{section}].", hint=nearest(name, known, "{}")
            )
    try:
        return msgspec.convert(dict(values), struct)
    except msgspec.ValidationError as error:
        words, _, path = str(error).partition(" - at ")
        name = re.sub(r"^`\$\.|`$", "", path)
        raise ConfigError(f"{where}: {name} under [{section}]: {words[0].lower()}{words[1:]}.") from error


def nearest(name: str, known: list[str], form: str) -> str:
    """A hint: the nearest known name, or all known names, each formatted."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"Did you mean {form.format(near[0])}?"
    return f"Available: {', '.join(form.format(one) for one in known)}."


def _document(file: Path, needed: bool) -> dict[str, Any]:
    try:
        data = read_bounded(file, LARGEST)
        if len(data) > LARGEST:
            raise ConfigError(f"{file} is not a configuration file: it is larger than {LARGEST >> 20} MiB.")
        return tomllib.loads(data.decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if not needed:
            return {}
        raise ConfigError(f"Configuration file {file} not found.", hint=f"Check {FILE_VARIABLE}.") from error
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration file {file}: {error.strerror}.") from error
    except RecursionError as error:
        raise ConfigError(f"The configuration file {file} is nested too deeply.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"Invalid TOML in the configuration file {file}: {error}.") from error


def _sections(document: Mapping[str, Any], file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for section, values in document.items():
        if section not in (*SECTIONS, PLATFORMS):
            raise ConfigError(f"{file}: unknown section [{section}].", hint=_hint_for_section(section))
        if not isinstance(values, dict):
            raise ConfigError(f"{file}: {section} must be a table, [{section}].")
        if section != PLATFORMS:
            yield section, values
            continue
        for name, platform in values.items():
            yield from _of_a_platform(name, platform, file)


def _of_a_platform(name: str, values: object, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Split [platform.NAME] and its subtables into sections."""
    if not isinstance(values, dict):
        raise ConfigError(
            f"{file}: {name} is under [platform], which needs a platform's name.",
            hint="Move it under [platform.NAME], for example [platform.tuna].",
        )
    check_platform(name, str(file))
    tables = {table: values[table] for table in PLATFORM_SECTIONS if isinstance(values.get(table), dict)}
    yield section_of(name), {key: value for key, value in values.items() if key not in tables}
    for table, held in tables.items():
        yield section_of(name, table), held


def check_platform(name: str, where: str) -> None:
    """ConfigError for an invalid platform name."""
    if name == C2_PLATFORM:
        raise ConfigError(
            f"{where}: [platform.{C2_PLATFORM}] and [{C2_PLATFORM}] are the same platform.",
            hint="Use one of them.",
        )
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: invalid platform name {name!r}.",
            hint='Use at most 32 letters, digits, "-" and "_", beginning with a letter.',
        )


def struct_of(section: str) -> type[msgspec.Struct]:
    """The settings struct of a section."""
    if section in SECTIONS:
        return SECTIONS[section]
    return PLATFORM_SECTIONS["".join(section.split(".")[2:])]


def _hint_for_section(section: str) -> str:
    """A hint: the nearest section, or the section of a setting outside any section."""
    for setting in settings():
        if setting.name == section and section != PLATFORMS:
            return f"Move it under [{setting.section}]."
    return nearest(section, [*SECTIONS, PLATFORMS], "[{}]")
