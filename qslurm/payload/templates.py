"""Finds templates: the user's directories first, then the shipped ones.

A template is `NAME.json.j2`, the payload, and may have a `NAME.sh.j2` beside it, its batch script.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import qslurm
from qslurm.errors import InvalidInputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_JSON = ".json.j2"
_SHELL = ".sh.j2"


@dataclass(frozen=True)
class Template:
    """A template's files; `script` is None if it has no batch script."""

    name: str
    payload: Path
    script: Path | None
    summary: str = ""


def shipped_folder() -> Path:
    """The directory of shipped templates: in the package, or at the top of a checkout."""
    package = Path(qslurm.__file__).parent
    folder = package / "_templates"
    return folder if folder.is_dir() else package.parent / "templates"


def user_folder(home: Path) -> Path:
    """The default directory of a user's templates."""
    return home / ".config" / "qslurm" / "templates"


def find_template(name: str, folders: Sequence[Path]) -> Template:
    """Find a template by name; InvalidInputError suggests the nearest."""
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"Invalid template name {name!r}.",
            hint="Use the name without directory and without .json.j2.",
        )
    for folder in _search_path(folders):
        path = folder / (name + _JSON)
        try:
            if path.is_file():
                return _template(path)
        except PermissionError as error:
            raise InvalidInputError(
                f"Cannot read the template directory {folder}: {error.strerror}.",
                hint="Check template_folders under [job] in the configuration.",
            ) from error
    names = [template.name for template in list_templates(folders)]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Available: {', '.join(names)}."
    raise InvalidInputError(f"Unknown template {name!r}.", hint=hint)


def list_templates(folders: Sequence[Path] = ()) -> list[Template]:
    """All templates by name; a user's template hides a shipped one."""
    found: dict[str, Template] = {}
    for folder in _search_path(folders):
        for path in sorted(folder.glob("*" + _JSON)):
            template = _template(path)
            found.setdefault(template.name, template)
    return sorted(found.values(), key=lambda template: template.name)


def _search_path(folders: Sequence[Path]) -> list[Path]:
    return [*folders, shipped_folder()]


def _template(path: Path) -> Template:
    name = path.name.removesuffix(_JSON)
    script = path.with_name(name + _SHELL)
    return Template(name, path, script if script.is_file() else None, _summary(path))


def _summary(path: Path) -> str:
    """The first line of a template's leading comment."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""  # rendering the template reports the error
    match = re.match(r"\s*\{#-?\s*(.+?)\s*(?:\n|-?#\})", text)
    return match[1] if match else ""
