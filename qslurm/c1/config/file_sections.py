"""Reads a configuration file into its sections, and says what is wrong in it: which name, and the nearest right one."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qslurm.c1.config.settings import (
    FIRST,
    OF_A_PLATFORM,
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
"""Bytes of a configuration file."""

PLATFORMS = "platform"
"""The table that holds the tables [platform.NAME]."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")

Sections = dict[str, dict[str, Any]]
"""The settings of a file by their section: `c2`, `job`, `agent`, `platform.tuna`, `platform.tuna.agent` …"""

_Section = TypeVar("_Section", bound=msgspec.Struct)


def read_file(file: Path, *, needed: bool) -> Sections:
    """A file's settings, each section checked; empty for a file that is not there and need not be.

    ConfigError for what can't be read, a name that is no setting, or a value of the wrong kind.
    """
    sections = dict(_sections(_document(file, needed), file))
    for section, values in sections.items():
        _check_limits(section, values.get("users"), str(file))
        checked(struct_of(section), section, values, str(file))
    return sections


def _check_limits(section: str, users: object, where: str) -> None:
    """[agent.users.NAME], name by name: what is wrong in there has a name and a place of its own."""
    if struct_of(section) is AgentSettings and isinstance(users, dict):
        for name, values in users.items():
            if isinstance(values, dict):
                checked(UserLimits, f"{section}.users.{name}", values, where)


def checked(struct: type[_Section], section: str, values: Mapping[str, Any], where: str) -> _Section:
    """A section's values as its struct; ConfigError that says which name, in which place, and what is wrong."""
    known = list(struct.__struct_fields__)
    for name in values:
        if name not in known:
            raise ConfigError(
                f"{where}: {name} under [{section}] is no setting.", hint=nearest(name, known, "{}")
            )
    try:
        return msgspec.convert(dict(values), struct)
    except msgspec.ValidationError as error:
        words, _, path = str(error).partition(" - at ")
        name = re.sub(r"^`\$\.|`$", "", path)
        raise ConfigError(f"{where}: {name} under [{section}]: {words[0].lower()}{words[1:]}.") from error


def nearest(name: str, known: list[str], form: str) -> str:
    """A hint: the known name that is meant, or all there are, each written in a form."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"Did you mean {form.format(near[0])}?"
    return f"There are {', '.join(form.format(one) for one in known)}."


def _document(file: Path, needed: bool) -> dict[str, Any]:
    try:
        data = read_bounded(file, LARGEST)
        if len(data) > LARGEST:
            raise ConfigError(f"{file} is no configuration file: it is larger than {LARGEST >> 20} MiB.")
        return tomllib.loads(data.decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if not needed:
            return {}
        raise ConfigError(
            f"There is no configuration file {file}.", hint=f"{FILE_VARIABLE} names it."
        ) from error
    except OSError as error:
        raise ConfigError(f"The configuration file {file} can't be read: {error.strerror}.") from error
    except RecursionError as error:
        raise ConfigError(f"The configuration file {file} is nested too deeply.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {file} is not TOML: {error}.") from error


def _sections(document: Mapping[str, Any], file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for section, values in document.items():
        if section not in (*SECTIONS, PLATFORMS):
            raise ConfigError(f"{file}: [{section}] is no section.", hint=_hint_for_section(section))
        if not isinstance(values, dict):
            raise ConfigError(f"{file}: {section} must be a section, [{section}].")
        if section != PLATFORMS:
            yield section, values
            continue
        for name, platform in values.items():
            yield from _of_a_platform(name, platform, file)


def _of_a_platform(name: str, values: object, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """[platform.NAME], and the tables under it."""
    if not isinstance(values, dict):
        raise ConfigError(
            f"{file}: {name} under [platform] belongs to no platform.",
            hint=f"Give the platform a name: [platform.tuna], and {name} under that.",
        )
    check_platform(name, str(file))
    tables = {table: values[table] for table in OF_A_PLATFORM if isinstance(values.get(table), dict)}
    yield section_of(name), {key: value for key, value in values.items() if key not in tables}
    for table, held in tables.items():
        yield section_of(name, table), held


def check_platform(name: str, where: str) -> None:
    """ConfigError for a name that a further platform can't have."""
    if name == FIRST:
        raise ConfigError(
            f"{where}: [platform.{FIRST}] is what [{FIRST}] is called.", hint="Use one of them."
        )
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: {name!r} is no name for a platform.",
            hint='It has at most 32 letters, digits, "-" and "_", and begins with a letter.',
        )


def struct_of(section: str) -> type[msgspec.Struct]:
    """What a section holds."""
    if section in SECTIONS:
        return SECTIONS[section]
    return OF_A_PLATFORM["".join(section.split(".")[2:])]


def _hint_for_section(section: str) -> str:
    """The nearest section, or the section a setting that stands outside one belongs to."""
    for setting in settings():
        if setting.name == section and section != PLATFORMS:
            return f"It belongs under [{setting.section}]."
    return nearest(section, [*SECTIONS, PLATFORMS], "[{}]")
