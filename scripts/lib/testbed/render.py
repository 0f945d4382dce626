"""Renders the templates in deploy/ into the files that an operator installs; undefined variables are errors.

Run it with `scripts/render [--set table.name=value …] [--set-file FILE] FOLDER`.
"""

from __future__ import annotations

import argparse
import copy
import json
import shlex
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from testbed.errors import TestbedError

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"

Variables = dict[str, Any]
"""As in deploy/variables.toml: tables of plain values, and `backend`, a list of such tables."""


def defaults(deploy: Path = DEPLOY) -> Variables:
    """The values of deploy/variables.toml."""
    return tomllib.loads((deploy / "variables.toml").read_text())


def merged(base: Variables, changes: Mapping[str, Any]) -> Variables:
    """`base` with some values replaced; TestbedError for names that it does not have."""
    result = copy.deepcopy(base)
    for table, values in changes.items():
        if table not in result:
            raise TestbedError(
                f"Unknown table [{table}]. deploy/variables.toml has {', '.join(sorted(result))}."
            )
        if isinstance(values, list):
            result[table] = [_same_names(result[table][0], value, table) for value in values]
        else:
            result[table] |= _known_names(result[table], values, table)
    return result


def _known_names(known: Mapping[str, Any], values: Mapping[str, Any], table: str) -> Mapping[str, Any]:
    if unknown := set(values) - set(known):
        raise TestbedError(f"Unknown {', '.join(sorted(unknown))} in [{table}] of deploy/variables.toml.")
    return values


def _same_names(known: Mapping[str, Any], values: Mapping[str, Any], table: str) -> dict[str, Any]:
    return {**known, **_known_names(known, values, table)}


def render(template: str, variables: Variables, deploy: Path = DEPLOY) -> str:
    """The text of one template (`c2/slurm.conf.j2`); TestbedError if a variable is missing."""
    import jinja2

    environment = jinja2.Environment(  # noqa: S701 no HTML here; each template quotes for the language it writes
        loader=jinja2.FileSystemLoader(deploy),
        undefined=jinja2.StrictUndefined,
        finalize=_one_line,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "shell": lambda value: shlex.quote(str(value)),
        "toml": json.dumps,
        "lua": json.dumps,
        "parent": lambda value: str(PurePosixPath(value).parent),
    }
    try:
        return environment.get_template(template).render(variables)
    except jinja2.TemplateError as error:
        raise TestbedError(f"Cannot render deploy/{template}: {error}.") from error


def _one_line(value: object) -> object:
    """Refuse line breaks in a value, which would add lines to a configuration."""
    if isinstance(value, str) and any(character in value for character in "\r\n\0"):
        raise TestbedError(f"Invalid value {value!r}: line breaks are not allowed.")
    return value


def templates(deploy: Path = DEPLOY) -> list[str]:
    """The names of all templates."""
    return sorted(str(path.relative_to(deploy)) for path in deploy.rglob("*.j2"))


def setting(text: str) -> dict[str, Any]:
    """Parse `table.name=value`; the value is TOML or a plain word."""
    name, equals, value = text.partition("=")
    table, dot, key = name.partition(".")
    if not (equals and dot):
        raise TestbedError(f"Invalid setting {text!r}. Use TABLE.NAME=VALUE.")
    try:
        return {table: {key: tomllib.loads(f"value = {value}")["value"]}}
    except tomllib.TOMLDecodeError:
        return {table: {key: value}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Render every template into a folder."""
    parser = argparse.ArgumentParser(prog="scripts/render", description="Render the files in deploy/.")
    parser.add_argument("folder", type=Path, help="target folder; existing files are replaced")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.NAME=VALUE",
        help="set a value of deploy/variables.toml",
    )
    parser.add_argument("--set-file", type=Path, metavar="FILE", help="TOML like deploy/variables.toml")
    options = parser.parse_args(arguments)
    try:
        variables = defaults()
        if options.set_file:
            variables = merged(variables, tomllib.loads(options.set_file.read_text()))
        for text in options.set:
            variables = merged(variables, setting(text))
        for name in templates():
            target = options.folder / name.removesuffix(".j2")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(render(name, variables))
            if "hooks" in target.parts:
                target.chmod(0o755)
            if target.name == "slurmdbd.conf":
                target.chmod(0o600)
    except (TestbedError, OSError, tomllib.TOMLDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
