"""`qslurm agent`: what holds the center's token, so that users don't."""

from __future__ import annotations

from pathlib import Path

import click

from qslurm.cli.options import CenterFlags, center_options, json_option
from qslurm.cli.output import note, print_facts, print_json
from qslurm.cli.time_format import clock_time

CLOCK_OFF_S = 10.0
"""A clock that is more than this off is worth a word."""


@click.group()
def agent() -> None:
    """The center's agent: it holds the token, sends what users submit, and keeps it until C2 has it."""


config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="QSLURM_CONFIG",
    show_default="/etc/qslurm/config.toml",
    help="The center's configuration.",
)
platform_option = click.option(
    "--platform",
    "-M",
    metavar="NAME",
    show_default="as [job] says",
    help="The platform whose agent is meant.",
)


@agent.command("serve")
@config_option
@platform_option
def serve(config_file: Path | None, platform: str | None) -> None:
    """Run the agent until SIGTERM, as a user of its own who alone may read the token.

    \b
    Examples:
      qslurm agent serve --config /etc/qslurm/config.toml
      qslurm agent serve --platform tuna
    """
    from qslurm.c1.agent.service import serve as serve_agent
    from qslurm.c1.config.center_config import FILE_VARIABLE, SYSTEM_FILE, load_config
    from qslurm.system.event_log import configure

    configure("agent")
    environment = {FILE_VARIABLE: str(config_file or SYSTEM_FILE)}
    serve_agent(load_config({"platform": platform}, environ=environment))


@agent.command("status")
@json_option
@center_options
def status(as_json: bool, center: CenterFlags) -> int:
    """Say how the agent is: whose token it holds, until when, whether it can renew it, and what waits for C2.

    Exit 1 if the token can't be kept fresh.

    \b
    Example:  qslurm agent status
    """
    import msgspec

    from qslurm.c1.config.settings import section_of
    from qslurm.c1.connection.agent_connection import AgentConnection
    from qslurm.errors import ConfigError

    config = center.config()
    if not (config.agent.socket or config.agent.address):
        raise ConfigError(
            "Nobody said where the center's agent is.",
            hint=f"Set socket under [{section_of(config.platform, 'agent')}] in the configuration, or QSLURM_AGENT.",
        )
    connection = AgentConnection(config, note)
    try:
        found = connection.status()
    finally:
        connection.close()
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        token = found.token
        until = clock_time(token.renewable_until)
        print_facts(
            {
                "token": f"{token.user}, ends on {clock_time(token.expires)}",
                "renewed": f"about {clock_time(token.renew_at)}"
                + (f", C2 allows it until {until}" if until else ""),
                "trouble": token.trouble,
                "clock": f"is {token.clock_off_s:+.0f} s off C2's"
                if abs(token.clock_off_s) > CLOCK_OFF_S
                else "",
                "open jobs": found.open,
                "waiting for C2": found.waiting,
                "releaser": f"was heard {found.releaser.silent_s:.0f} s ago" if found.releaser else "",
            }
        )
    return 1 if found.token.trouble else 0


@agent.command("releaser")
@config_option
@platform_option
def releaser(config_file: Path | None, platform: str | None) -> None:
    """Release and cancel follow-up jobs (`qslurm submit --then`) on C1, until SIGTERM.

    It runs as a user who may do that: C1's SlurmUser, or one with AdminLevel=Operator. The agent's configuration names
    this user ([agent] releaser). It listens to nobody, holds no token, and keeps nothing.

    \b
    Example:  qslurm agent releaser --config /etc/qslurm/config.toml
    """
    from qslurm.c1.config.center_config import FILE_VARIABLE, SYSTEM_FILE, load_config
    from qslurm.c1.followups.releaser import serve as serve_releaser
    from qslurm.system.event_log import configure

    configure("releaser")
    environment = {FILE_VARIABLE: str(config_file or SYSTEM_FILE)}
    serve_releaser(load_config({"platform": platform}, environ=environment))
