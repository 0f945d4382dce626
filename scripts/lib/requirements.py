"""Print the requirements of extras and dependency groups in pyproject.toml, one per line.

An extra is written `c2`, a group `group:dev`. Debian 12's pip cannot install a dependency group by itself.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def requirements(pyproject: dict[str, Any], names: list[str]) -> list[str]:
    """All requirements, without duplicates: of the project, of its build, and of the named extras and groups."""
    found = [*pyproject["build-system"]["requires"], *pyproject["project"]["dependencies"]]
    for name in names:
        if name.startswith("group:"):
            found += _group(pyproject, name.removeprefix("group:"))
        else:
            found += _extra(pyproject, name)
    return list(dict.fromkeys(found))


def _extra(pyproject: dict[str, Any], name: str) -> Iterator[str]:
    itself = re.compile(rf"{re.escape(pyproject['project']['name'])}\[(?P<extras>[^]]+)\]$")
    for requirement in pyproject["project"]["optional-dependencies"][name]:
        if own := itself.match(requirement):
            for other in own["extras"].split(","):
                yield from _extra(pyproject, other.strip())
        else:
            yield requirement


def _group(pyproject: dict[str, Any], name: str) -> Iterator[str]:
    for entry in pyproject["dependency-groups"][name]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from _group(pyproject, entry["include-group"])


if __name__ == "__main__":
    print("\n".join(requirements(tomllib.loads(PYPROJECT.read_text()), sys.argv[1:])))
