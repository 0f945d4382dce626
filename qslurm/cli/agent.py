"""`qslurm agent`: what holds the center's token, so that users don't."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def agent() -> None:
    """The center's agent: it holds the token, sends what users submit, and keeps it until C2 has it."""


@agent.command("serve")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="QSLURM_CONFIG",
    show_default="/etc/qslurm/config.toml",
    help="The center's configuration.",
)
@click.option(
    "--platform",
    "-M",
    metavar="NAME",
    show_default="as [job] says",
    help="The platform that it is the agent of.",
)
def serve(config_file: Path | None, platform: str | None) -> None:
    """Run the agent until SIGTERM, as a user of its own who alone may read the token.

    \b
    Examples:
      qslurm agent serve --config /etc/qslurm/config.toml
      qslurm agent serve --platform tuna
    """
    from qslurm.agent.service import serve as serve_agent
    from qslurm.center.config import FILE_VARIABLE, SYSTEM_FILE, load_config
    from qslurm.eventlog import configure

    configure("agent")
    environment = {FILE_VARIABLE: str(config_file or SYSTEM_FILE)}
    serve_agent(load_config({"platform": platform}, environ=environment))
