"""`qslurm center init`: a center's configuration, written and checked."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qslurm.cli.options import json_option
from qslurm.cli.output import print_json, print_table
from qslurm.errors import ConfigError, InvalidInputError

if TYPE_CHECKING:
    from qslurm.center.config import Config
    from qslurm.doctor.finding import Finding

_OPTIONS = {
    ("agent", "socket"): "--agent",
    ("agent", "address"): "--agent-address",
    ("job", "backend"): "--backend",
    ("job", "account"): "--account",
}
"""What options are called that are not of [c2]; all of that section are there, by their names."""


@click.group()
def center() -> None:
    """Set this center up: write its configuration, and check it."""


def _setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each setting that a center's first configuration may need, with the setting's own words."""
    from qslurm.center.settings import settings

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
    "--set",
    "more",
    multiple=True,
    metavar="SECTION.NAME=VALUE",
    help="Any other setting, such as agent.max_open_jobs=100; may be repeated.",
)
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    show_default="/etc/qslurm/config.toml for root, ~/.config/qslurm/config.toml for others",
    help="Where to write it.",
)
@click.option("--force", is_flag=True, help="Replace the one that is there.")
@click.option("--no-check", is_flag=True, help="Don't look whether it works.")
@json_option
def init(
    *, more: tuple[str, ...], path: Path | None, force: bool, no_check: bool, as_json: bool, **given: Any
) -> None:
    """Write a configuration with every setting explained, look whether it works, and say what comes next.

    \b
    Examples:
      qslurm center init --url https://c2.example.org/slurm --results-url https://c2.example.org/qslurm
      qslurm center init --url … --results-url … --agent /run/qslurm-agent/agent.sock --set agent.max_open_jobs=100
    """
    import msgspec

    from qslurm.center.newfile import config_text, write_config
    from qslurm.doctor.finding import run

    target = path or _usual_file()
    values = _values(given, more)
    _complete(values, target)
    write_config(target, config_text(values), replace=force)
    config = _written(target)
    findings = [] if no_check else list(run(_checks(config)))
    steps = _next_steps(config, findings, target)
    if as_json:
        print_json({"file": str(target), "findings": msgspec.to_builtins(findings), "next": steps})
        return
    click.echo(f"Written: {target}")
    if findings:
        print_table(("", "WHAT", "IS", "DO"), [(one.state, one.name, one.what, one.do) for one in findings])
    for step in steps:
        click.echo(f"Next: {step}")


def _values(given: dict[str, Any], more: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """What was said, by section and name; InvalidInputError for what can't be."""
    from qslurm.center.settings import SECTIONS

    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for variable, value in given.items():
        if value is not None:
            section, _, name = variable.partition("_")
            values[section][name] = value
    for text in more:
        setting, equals, value = text.partition("=")
        section, dot, name = setting.strip().partition(".")
        if not (equals and dot and section in values):
            raise InvalidInputError(
                f"{text!r} sets nothing.",
                hint="Write a section, a setting and its value: agent.max_open_jobs=100.",
            )
        values[section][name] = _parsed(value.strip())
    return values


def _parsed(text: str) -> object:
    """A value as TOML has it, or the plain word."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _complete(values: dict[str, dict[str, Any]], target: Path) -> None:
    """Refuse what can't work, before anything is written, and say where the token will be if nobody has."""
    from qslurm.center.settings import AgentSettings
    from qslurm.slurmrest.pins import parse_pins
    from qslurm.slurmrest.transport import check_url

    c2, agent = values["c2"], values["agent"]
    if not (c2.get("url") or agent.get("socket") or agent.get("address")):
        raise ConfigError(
            "Nobody said where C2 is.", hint="Give --url, or --agent for users of a center's agent."
        )
    for name in ("url", "results_url"):
        if c2.get(name):
            check_url(c2[name])
    if c2.get("pinned_key"):
        parse_pins(c2["pinned_key"])
    if c2.get("url") and not c2.get("token_file"):
        folder = target.absolute().parent
        if agent.get("socket"):
            folder = Path(str(agent.get("state", AgentSettings().state)))
        c2["token_file"] = str(folder / "token")


def _usual_file() -> Path:
    from qslurm.center.config import FILE_VARIABLE, SYSTEM_FILE

    if os.environ.get(FILE_VARIABLE):
        return Path(os.environ[FILE_VARIABLE]).expanduser()
    return SYSTEM_FILE if os.geteuid() == 0 else Path.home() / ".config" / "qslurm" / "config.toml"


def _written(path: Path) -> Config:
    """The file as every command reads it, without what this shell's environment says."""
    from qslurm.center.config import FILE_VARIABLE, load_config

    return load_config(environ={FILE_VARIABLE: str(path), "HOME": str(Path.home())})


def _checks(config: Config) -> dict[str, Any]:
    from qslurm.doctor.c1 import c1_checks, reach_checks

    return reach_checks(config) | c1_checks(config)


def _next_steps(config: Config, findings: list[Finding], target: Path) -> list[str]:
    from qslurm.center.config import SYSTEM_FILE

    steps = []
    known = target.absolute() in (place.absolute() for place in (SYSTEM_FILE, _usual_file()))
    with_it = "" if known else f"QSLURM_CONFIG={shlex.quote(str(target.absolute()))} "
    if config.c2.token_file and not Path(config.c2.token_file).expanduser().exists():
        steps.append(
            f"qslurm token install --file {config.c2.token_file} < token, which C2's operators send you"
        )
    if config.agent.socket and not Path(config.agent.socket).exists():
        steps.append("systemctl enable --now qslurm-agent, on one host of the center")
    if steps or any(one.state != "ok" for one in findings):
        steps.append(f"{with_it}qslurm doctor, until nothing is missing")
    else:
        steps.append(f"{with_it}qslurm submit bell.cq --wait")
    return steps
