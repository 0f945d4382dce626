"""`qslurm token`: keys and tokens on C2, the center's token on C1. A token is never printed to a terminal."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qslurm.cli import streams
from qslurm.cli.output import note, print_facts, print_json, print_table
from qslurm.cli.shared_options import CenterFlags, c2_config_option, center_options, json_option
from qslurm.cli.time_format import clock_time
from qslurm.cli.token_renewal_commands import renew, renewal, serve
from qslurm.errors import AccountingAwayError, ConfigError, InvalidInputError, QslurmError

if TYPE_CHECKING:
    from qslurm.slurm.rest import SlurmrestClient
    from qslurm.tokens.secret import Secret

DEFAULT_TOKEN_FILE = Path("/etc/qslurm/token")


@click.group()
def token() -> None:
    """Tokens: an operator issues them on C2, a center admin installs, checks and renews them on C1."""


for _command in (renew, renewal, serve):
    token.add_command(_command)


@token.command()
@click.option("--center", required=True, metavar="NAME", help="The center, for example snellius.")
@click.option("--lifetime", default="30d", metavar="TIME", help="Lifetime of the token: 30d, 12h, 90m.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), show_default="a pipe, or <center>.token",
    help="File to write the token to (mode 0600).",
)  # fmt: skip
@click.option(
    "--renewable", metavar="TIME", show_default="renewable in [tokens]",
    help="How long the center may renew it, or never.",
)  # fmt: skip
@c2_config_option
def issue(
    center: str, lifetime: str, output: Path | None, renewable: str | None, config_file: Path | None
) -> None:
    """Issue a token for a center, into a file or a pipe; it is never shown on a terminal.

    \b
    Examples:
      qslurm token issue --center snellius --lifetime 30d
      qslurm token issue --center snellius | ssh snellius qslurm token install
    """
    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.tokens.issue import issue_token, unknown_user_warning
    from qslurm.c2.tokens.renewal_terms import RenewalTerms, read_terms, until, write_terms
    from qslurm.tokens.claims import Claims
    from qslurm.tokens.token_file import install_token

    config = load_c2_config(config_file)
    issued = issue_token(
        config.tokens,
        center,
        lifetime,
        user_prefix=config.slurm.user_prefix,
        masters=config.dispatcher.trusted_users,
    )
    terms = RenewalTerms(
        until(renewable or config.tokens.renewable, time.time()), read_terms(config.tokens, center).lifetime
    )
    write_terms(config.tokens, center, terms)
    claims: Claims = issued.claims
    if output is None and sys.stdout is not None and not sys.stdout.isatty():
        streams.write(issued.token.reveal())
    else:
        output = output or Path(f"{center}.token")
        install_token(issued.token, output)
        note(f"Wrote {output}. Send it to the center's admins over a confidential channel.")
    renewals = f"can be renewed until {clock_time(terms.until)}" if terms.until else "cannot be renewed"
    note(f"The token is for {claims.user}, expires {clock_time(claims.expires)}, and {renewals}.")
    if warning := unknown_user_warning(claims):
        note(f"qslurm: {warning}")


@token.command()
@click.option("--center", required=True, metavar="NAME", help="The center, for example snellius.")
@c2_config_option
def key(center: str, config_file: Path | None) -> None:
    """Create the key that signs a center's tokens. The private key never leaves C2.

    \b
    Example:  qslurm token key --center snellius
    """
    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.tokens.keys import create_key

    config = load_c2_config(config_file).tokens
    if create_key(config, center):
        streams.write(
            f"Created a key for {center}. Restart slurmctld and slurmdbd to load it from {config.jwks}."
        )
    else:
        streams.write(f"{center} already has a key.")


@token.command()
@c2_config_option
@json_option
def keys(config_file: Path | None, as_json: bool) -> None:
    """List the centers that have a key.

    \b
    Example:  qslurm token keys
    """
    import msgspec

    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.tokens.keys import list_keys
    from qslurm.c2.tokens.renewal_terms import read_terms

    config = load_c2_config(config_file).tokens
    listed = [(key, read_terms(config, key.center).until) for key in list_keys(config)]
    if as_json:
        rows = [msgspec.to_builtins(key) | {"renewable_until": until or None} for key, until in listed]
        print_json({"keys": rows})
        return
    print_table(
        ("CENTER", "FINGERPRINT", "CREATED", "RENEWABLE UNTIL"),
        [(k.center, k.fingerprint, clock_time(k.created), clock_time(until or None)) for k, until in listed],
    )


@token.command()
@click.option("--center", required=True, metavar="NAME", help="The center whose tokens to revoke.")
@c2_config_option
def revoke(center: str, config_file: Path | None) -> None:
    """Revoke all tokens of a center by removing its key. Other centers are not affected.

    Renewals stop immediately. `qslurm token renewal --stop` stops only renewals.

    \b
    Example:  qslurm token revoke --center snellius
    """
    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.tokens.keys import remove_key

    remove_key(load_c2_config(config_file).tokens, center)
    streams.write(
        f"Removed the key of {center}. Restart slurmctld and slurmdbd to make Slurm refuse its tokens."
    )


@token.command()
@click.option(
    "--file", "path", type=click.Path(path_type=Path, dir_okay=False), show_default="token_file in the configuration",
    help="File to install the token in.",
)  # fmt: skip
@click.option(
    "--group", metavar="NAME", help="Group of the users who may submit and so read the file (mode 0640)."
)
@center_options
def install(path: Path | None, group: str | None, center: CenterFlags) -> None:
    """Install the center's token, read from stdin, with mode 0600, or 0640 for a group.

    \b
    Example:  qslurm token install --group researchers < snellius.token
    """
    from qslurm.tokens.token_file import install_token

    text: str | bytes
    if sys.stdin.isatty():
        text = click.prompt("The center's token (not shown)", hide_input=True)
    else:
        text = sys.stdin.buffer.read(1 << 16)
    target = path or _configured_file(center) or _default_file(center)
    claims = install_token(text, target, group=group)
    streams.write(
        f"Installed the token of {claims.user} in {target}; it expires {clock_time(claims.expires)}."
    )


@token.command()
@click.option("--offline", is_flag=True, help="Do not check the token against C2.")
@json_option
@center_options
def check(offline: bool, as_json: bool, center: CenterFlags) -> None:
    """Check the token: its user, its expiry, its file's permissions, and whether C2 accepts it.

    \b
    Example:  qslurm token check
    """
    import msgspec

    from qslurm.c1.queries.accounting import ACCOUNTING_DOWN, ACCOUNTING_HINT, is_accounting_up
    from qslurm.tokens.claims import Claims
    from qslurm.tokens.token_check import Pings, check_token

    config = center.config()
    source = config.token or _configured_file(center)  # with the precedence of all commands
    if source is None:
        raise InvalidInputError(
            "No token given.",
            hint="Use --token-file FILE, set token_file in the configuration, or SLURM_JWT in the environment.",
        )

    clients: list[SlurmrestClient] = []

    def connect(claims: Claims, secret: Secret) -> Pings:
        from qslurm.c1.connection.api_versions import connect as connect_center

        clients.append(connect_center(config, secret, user=claims.user))
        return clients[0]

    def renewal() -> str:
        from qslurm.c1.config.center_config import load_token
        from qslurm.c1.connection.center_connection import job_manager_client
        from qslurm.c1.connection.center_token import renewable_until

        if offline or not config.c2.results_url:
            return "not checked"
        try:
            until = renewable_until(job_manager_client(config, load_token(config)))
        except QslurmError as error:
            return str(error)
        return f"C2 allows renewals until {clock_time(until)}" if until else "C2 allows renewals"

    report = check_token(source, connect=None if offline else connect, user=config.c2.user)
    away = any(not is_accounting_up(client) for client in clients)
    if as_json:
        print_json({**msgspec.to_builtins(report), "accounting": not away if clients else None})
    else:
        print_facts(
            {
                "token": report.path,
                "user": report.claims.user,
                "key": f"{report.claims.key_id} ({report.claims.algorithm})",
                "expiry": report.expiry,
                "C2": report.c2 or "not checked",
                "accounting": (ACCOUNTING_DOWN if away else "available") if clients else "not checked",
                "renewal": renewal(),
            }
        )
        for warning in report.warnings:
            note(f"qslurm: {warning}")
    if away:
        note(f"qslurm: {ACCOUNTING_DOWN}. {ACCOUNTING_HINT}")
        raise click.exceptions.Exit(AccountingAwayError.exit_code)


def _configured_file(center: CenterFlags) -> Path | None:
    name = center.config().c2.token_file
    return Path(name) if name else None


def _default_file(center: CenterFlags) -> Path:
    """The default token file of a single platform; ConfigError if there are several."""
    config = center.config()
    if len(config.platforms) > 1:
        raise ConfigError(
            f"No token file given for platform {config.platform}.",
            hint=f"Set token_file under [{config.section}] in the configuration, or use --file FILE.",
        )
    return DEFAULT_TOKEN_FILE
