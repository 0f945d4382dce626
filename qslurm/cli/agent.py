"""`qslurm agent`: serve and inspect the center's agent, which holds the token for its users."""

from __future__ import annotations

from pathlib import Path

import click

from qslurm.cli.output import note, print_facts, print_json
from qslurm.cli.shared_options import CenterFlags, center_options, json_option
from qslurm.cli.time_format import clock_time

CLOCK_OFF_S = 10.0
"""Report a clock that differs from C2's by more than this."""


@click.group()
def agent() -> None:
    """The center's agent: holds the token, and keeps each submission until C2 has accepted it."""


config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="QSLURM_CONFIG",
    show_default="/etc/qslurm/config.toml",
    help="The center's configuration file.",
)
platform_option = click.option(
    "--platform",
    "-M",
    metavar="NAME",
    show_default="platform under [job]",
    help="The agent's platform.",
)


@agent.command("serve")
@config_option
@platform_option
def serve(config_file: Path | None, platform: str | None) -> None:
    """Run the agent until SIGTERM, under a dedicated user who alone can read the token.

    \b
    Examples:
      qslurm agent serve --config /etc/qslurm/config.toml
      qslurm agent serve --platform tuna
    """
    from qslurm.c1.agent.agent_service import serve as serve_agent
    from qslurm.c1.config.center_config import load_config
    from qslurm.c1.config.file_sections import FILE_VARIABLE
    from qslurm.c1.config.platforms import SYSTEM_FILE
    from qslurm.system.event_log import configure

    configure("agent")
    environment = {FILE_VARIABLE: str(config_file or SYSTEM_FILE)}
    serve_agent(load_config({"platform": platform}, environ=environment))


@agent.command("status")
@json_option
@center_options
def status(as_json: bool, center: CenterFlags) -> int:
    """Show the agent's token, its expiry and renewal, and the submissions not yet sent to C2.

    Exit 1 if the token cannot be renewed.

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
            "No agent configured.",
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
                "token": f"{token.user}, expires {clock_time(token.expires)}",
                "renewed": f"about {clock_time(token.renew_at)}"
                + (f"; C2 allows renewals until {until}" if until else ""),
                "trouble": token.trouble,
                "clock": f"differs from C2's by {token.clock_off_s:+.0f} s"
                if abs(token.clock_off_s) > CLOCK_OFF_S
                else "",
                "open jobs": found.open,
                "waiting for C2": found.waiting,
                "releaser": f"last seen {found.releaser.silent_s:.0f} s ago" if found.releaser else "",
            }
        )
    return 1 if found.token.trouble else 0


@agent.command("releaser")
@config_option
@platform_option
def releaser(config_file: Path | None, platform: str | None) -> None:
    """Release and cancel follow-up jobs (`qslurm submit --then`) on C1, until SIGTERM.

    Run it as C1's SlurmUser, or as a user with AdminLevel=Operator; [agent] releaser in the agent's configuration names
    this user. It accepts no connections, and stores neither tokens nor state.

    \b
    Example:  qslurm agent releaser --config /etc/qslurm/config.toml
    """
    from qslurm.c1.config.center_config import load_config
    from qslurm.c1.config.file_sections import FILE_VARIABLE
    from qslurm.c1.config.platforms import SYSTEM_FILE
    from qslurm.c1.followups.releaser import serve as serve_releaser
    from qslurm.system.event_log import configure

    configure("releaser")
    environment = {FILE_VARIABLE: str(config_file or SYSTEM_FILE)}
    serve_releaser(load_config({"platform": platform}, environ=environment))
