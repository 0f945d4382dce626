"""`qslurm center init`: a center's configuration, written and checked."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qslurm.c1.config.settings import expanded
from qslurm.cli import streams
from qslurm.cli.output import print_json, print_table
from qslurm.cli.shared_options import json_option
from qslurm.errors import ConfigError, InvalidInputError

if TYPE_CHECKING:
    from qslurm.c1.config.platforms import Platforms
    from qslurm.c1.config.settings import Config
    from qslurm.doctor.findings import Finding

_OPTIONS = {
    ("agent", "socket"): "--agent",
    ("agent", "address"): "--agent-address",
    ("job", "backend"): "--backend",
    ("job", "account"): "--account",
}
"""Options for settings outside [c2]; each setting in [c2] has an option of the same name."""

_PLATFORM = re.compile(r"platform\.[^.]+(?:\.(?:agent|job))?")
"""A section of an additional platform."""


@click.group()
def center() -> None:
    """Write and check this center's configuration."""


def _setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each setting of a center's first configuration, with the setting's documentation as help."""
    from qslurm.c1.config.settings import settings

    for setting in reversed(list(settings())):
        name = _OPTIONS.get((setting.section, setting.name))
        if setting.section == "c2":
            name = f"--{setting.name.replace('_', '-')}"
        if name is not None:
            kind = click.FLOAT if isinstance(setting.default, float) else click.STRING
            variable = f"{setting.section}_{setting.name}"
            metavar = setting.name.rpartition("_")[2].upper()
            command = click.option(name, variable, type=kind, metavar=metavar, help=setting.doc)(command)
    return command


@center.command()
@_setting_options
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="NAME=URL",
    help="An additional platform and its slurmrestd URL; may be repeated.",
)
@click.option(
    "--set",
    "more",
    multiple=True,
    metavar="SECTION.NAME=VALUE",
    help="Any other setting, such as agent.max_open_jobs=100 or platform.tuna.results_url=URL; may be repeated.",
)
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    show_default="/etc/qslurm/config.toml for root, ~/.config/qslurm/config.toml for others",
    help="Configuration file to write.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option("--no-check", is_flag=True, help="Skip the checks.")
@json_option
def init(
    *,
    platforms: tuple[str, ...],
    more: tuple[str, ...],
    path: Path | None,
    force: bool,
    no_check: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Write a commented configuration file, check it, and print the next steps.

    \b
    Examples:
      qslurm center init --url https://c2.example.org/slurm --results-url https://c2.example.org/qslurm
      qslurm center init --url … --results-url … --agent /run/qslurm-agent/agent.sock --set agent.max_open_jobs=100
      qslurm center init --url … --platform tuna=https://tuna.example.org/slurm --set platform.tuna.job.backend=tuna5
    """
    import msgspec

    from qslurm.c1.config.new_file import config_text, write_config
    from qslurm.doctor.findings import run

    target = path or default_config_file()
    values = _values(settings, platforms, more)
    _complete(values, target)
    write_config(target, config_text(values), force=force)
    written = _read_back(target)
    configs = [written.config(name) for name in written.names]
    findings = [] if no_check else run(_checks(configs))
    steps = _next_steps(configs, findings, target)
    if as_json:
        print_json({"file": str(target), "findings": msgspec.to_builtins(findings), "next": steps})
        return
    streams.write(f"Written: {target}")
    if findings:
        print_table(
            ("", "CHECK", "RESULT", "FIX"), [(one.state, one.name, one.what, one.do) for one in findings]
        )
    for step in steps:
        streams.write(f"Next: {step}")


def _values(
    chosen: dict[str, Any], platforms: tuple[str, ...], more: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """The given settings, by section and name; InvalidInputError if one is invalid."""
    from qslurm.c1.config.settings import SECTIONS

    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for variable, value in chosen.items():
        if value is not None:
            section, _, name = variable.partition("_")
            values[section][name] = value
    for text in platforms:
        name, equals, url = text.partition("=")
        if not (name and equals and url):
            raise InvalidInputError(
                f"Invalid platform {text!r}.",
                hint="Use NAME=URL, for example tuna=https://tuna.example.org/slurm.",
            )
        values.setdefault(f"platform.{name.strip()}", {})["url"] = url.strip()
    for text in more:
        setting, equals, value = text.partition("=")
        section, dot, name = setting.strip().rpartition(".")
        if not (equals and dot and (section in SECTIONS or _PLATFORM.fullmatch(section))):
            raise InvalidInputError(
                f"Invalid setting {text!r}.",
                hint="Use SECTION.NAME=VALUE, for example agent.max_open_jobs=100.",
            )
        values.setdefault(section, {})[name] = _parsed(value.strip())
    return values


def _parsed(text: str) -> object:
    """Parse a TOML value; any other text is a string."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _complete(values: dict[str, dict[str, Any]], target: Path) -> None:
    """Check the settings before anything is written, and add default token files."""
    from qslurm.c1.config.settings import C2_PLATFORM, section_of

    names = list(
        dict.fromkeys(section.split(".")[1] for section in values if section.startswith("platform."))
    )
    if values["c2"] or values["agent"] or not names:
        names.insert(0, C2_PLATFORM)
    for name in names:
        c2 = values.setdefault(section_of(name), {})
        _complete_one(name, c2, values.get(section_of(name, "agent"), {}), target.absolute().parent)


def _complete_one(name: str, c2: dict[str, Any], agent: Mapping[str, Any], folder: Path) -> None:
    from qslurm.c1.config.center_config import require_tls
    from qslurm.c1.config.file_sections import checked
    from qslurm.c1.config.settings import C2_PLATFORM, AgentSettings, C2Settings, section_of
    from qslurm.slurm.rest.pinned_keys import parse_pins
    from qslurm.slurm.rest.transport import check_url

    if not (c2.get("url") or agent.get("socket") or agent.get("address")):
        where, option = (
            ("C2", "--url") if name == C2_PLATFORM else (f"platform {name}", f"--platform {name}=URL")
        )
        raise ConfigError(
            f"No URL given for {where}.",
            hint=f"Use {option}, or {'--agent' if name == C2_PLATFORM else 'its agent'} for users of a center's agent.",
        )
    for setting in ("url", "results_url"):
        if c2.get(setting):
            check_url(c2[setting])
    require_tls(checked(C2Settings, section_of(name), c2, "the options"))
    if c2.get("pinned_key"):
        parse_pins(c2["pinned_key"])
    if c2.get("url") and not c2.get("token_file"):
        behind = "" if name == C2_PLATFORM else f"-{name}"
        if agent.get("socket"):
            state = agent.get("state", f"{AgentSettings().state}{behind}")
            c2["token_file"] = str(Path(str(state)) / "token")
        else:
            c2["token_file"] = str(folder / f"token{behind}")


def default_config_file() -> Path:
    """The file that `qslurm center init` writes by default; ConfigError for a user without a home directory."""
    from qslurm.c1.config.file_sections import FILE_VARIABLE
    from qslurm.c1.config.platforms import SYSTEM_FILE

    if os.environ.get(FILE_VARIABLE):
        return expanded(os.environ[FILE_VARIABLE])
    if os.geteuid() == 0:
        return SYSTEM_FILE
    home = expanded("~")
    if not home.is_absolute():
        raise ConfigError("This user has no home directory.", hint="Use --file FILE.")
    return home / ".config" / "qslurm" / "config.toml"


def _read_back(path: Path) -> Platforms:
    """The written configuration, without settings of this environment."""
    from qslurm.c1.config.file_sections import FILE_VARIABLE
    from qslurm.c1.config.platforms import load_platforms

    return load_platforms(environ={FILE_VARIABLE: str(path), "HOME": str(expanded("~"))})


def _checks(configs: Sequence[Config]) -> dict[str, Any]:
    from qslurm.doctor.c1 import c1_checks, reach_checks

    checks: dict[str, Any] = {}
    for config in configs:
        checks |= reach_checks(config) | c1_checks(config)
    return checks


def _next_steps(configs: Sequence[Config], findings: list[Finding], target: Path) -> list[str]:
    from qslurm.c1.config.platforms import SYSTEM_FILE
    from qslurm.c1.config.settings import C2_PLATFORM

    steps = []
    known = target.absolute() in (place.absolute() for place in (SYSTEM_FILE, default_config_file()))
    with_it = "" if known else f"QSLURM_CONFIG={shlex.quote(str(target.absolute()))} "
    for config in configs:
        first, name = config.platform == C2_PLATFORM, config.platform
        if config.c2.token_file and not os.access(expanded(config.c2.token_file), os.F_OK):
            whose = "C2's operators" if first else f"the operators of {name}"
            steps.append(
                f"qslurm token install --file {shlex.quote(config.c2.token_file)} < TOKEN (from {whose})"
            )
        if config.agent.socket and not os.access(config.agent.socket, os.F_OK):
            unit = "qslurm-agent" if first else f"qslurm-agent@{name}"
            steps.append(f"systemctl enable --now {unit}, on one host of the center")
    if steps or any(one.state != "ok" for one in findings):
        steps.append(f"{with_it}qslurm doctor, until every check passes")
    else:
        steps.append(f"{with_it}qslurm submit bell.cq --wait")
    return steps
