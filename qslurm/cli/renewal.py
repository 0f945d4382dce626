"""`qslurm token renew` on C1; `qslurm token renewal` and `serve` on C2."""

from __future__ import annotations

import time
from pathlib import Path

import click

from qslurm.cli import streams
from qslurm.cli.options import CenterFlags, c2_config_option, center_options, json_option
from qslurm.cli.output import note, print_facts, print_json
from qslurm.cli.time_format import clock_time
from qslurm.errors import InvalidInputError


@click.command()
@click.option("--now", "at_once", is_flag=True, help="Renew it whether it is due or not.")
@json_option
@center_options
def renew(at_once: bool, as_json: bool, center: CenterFlags) -> None:
    """Ask C2 for a fresh token, once 80% of this one's life is over, and put it into this one's file.

    The center's agent does this by itself; without one, let a timer do it every hour. C2's Slurm is asked whether it
    takes the new token before the old one is replaced. Before it is due C2 is asked whether it would: exit 4 if not.

    \b
    Examples:
      qslurm token renew --token-file /etc/qslurm/token
      17 * * * *  root  qslurm token renew        # in /etc/cron.d/qslurm
    """
    from qslurm.c1.connection.token_renewal import renew_file

    config = center.config()
    if config.token is not None:
        raise InvalidInputError(
            "A token in the environment can't be replaced.", hint="Unset SLURM_JWT, or name its file."
        )
    if not config.c2.token_file:
        raise InvalidInputError(
            "Nobody said where the token is.", hint="Say --token-file, or set token_file in the config."
        )
    done = renew_file(config, at_once=at_once)
    if as_json:
        print_json(
            {
                "renewed": done.renewed,
                "expires": done.claims.expires,
                "renew_at": done.renew_at,
                "renewable_until": done.until,
            }
        )
    elif done.renewed:
        streams.write(
            f"Renewed the token of {done.claims.user}; it ends on {clock_time(done.claims.expires)}."
        )
    else:
        streams.write(
            f"Nothing to do: the token of {done.claims.user} ends on {clock_time(done.claims.expires)},"
            f" and is renewed from {clock_time(done.renew_at)} on."
        )
    if done.ends_soon:
        note(f"qslurm: C2's operators renew it only until {clock_time(done.until)}: talk to them.")


@click.command()
@click.option("--center", required=True, metavar="NAME", help="The center, such as snellius.")
@click.option("--for", "period", metavar="TIME", help="It may renew its token for so long from now on: 90d.")
@click.option(
    "--until", "date", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="It may renew it until then."
)
@click.option("--stop", is_flag=True, help="It may not renew it any more; the one it has lives to its end.")
@click.option("--lifetime", metavar="TIME", help="How long a renewed token lives.  [default: as in [tokens]]")
@c2_config_option
@json_option
def renewal(  # noqa: PLR0917 - click names them
    center: str,
    period: str | None,
    date: object,
    stop: bool,
    lifetime: str | None,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """Say until when a center may renew its token by itself, and for how long each time; change it.

    It is true at once. `qslurm token issue` allows renewals anew, and `qslurm token revoke` ends everything.

    \b
    Examples:
      qslurm token renewal --center snellius
      qslurm token renewal --center snellius --until 2027-06-30 --lifetime 7d
      qslurm token renewal --center snellius --stop
    """
    import msgspec

    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.tokens.keys import require_key
    from qslurm.c2.tokens.renewal_terms import NEVER, read_terms, until, write_terms
    from qslurm.tokens.lifetime import parse_lifetime

    if (period is not None) + (date is not None) + stop > 1:
        raise click.UsageError("Say one of --for, --until and --stop.")
    config = load_c2_config(config_file).tokens
    require_key(config, center)  # without one it has no token to renew
    terms = before = read_terms(config, center)
    if date is not None:
        terms = msgspec.structs.replace(terms, until=int(date.timestamp()))  # type: ignore[attr-defined]
    elif period is not None or stop:
        terms = msgspec.structs.replace(terms, until=until(period or NEVER, time.time()))
    if lifetime is not None:
        parse_lifetime(lifetime)
        terms = msgspec.structs.replace(terms, lifetime=lifetime)
    if terms != before:
        write_terms(config, center, terms)
    allowed = terms.until > time.time()
    if as_json:
        print_json(
            {
                "center": center,
                "allowed": allowed,
                "until": terms.until or None,
                "lifetime": terms.lifetime or config.renewed_lifetime,
            }
        )
        return
    words = f"until {clock_time(terms.until)}" if allowed else "no"
    print_facts({"center": center, "renews": words, "lifetime": terms.lifetime or config.renewed_lifetime})


@click.command()
@c2_config_option
def serve(config_file: Path | None) -> None:
    """Run C2's renewal service until SIGTERM, as the user who owns the keys and does nothing else.

    \b
    Example:  qslurm token serve --config /etc/qslurm/c2.toml
    """
    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.tokens.service import serve as serve_tokens
    from qslurm.system.event_log import configure

    config = load_c2_config(config_file)
    configure("tokens")
    serve_tokens(config.tokens, user_prefix=config.slurm.user_prefix, masters=config.dispatcher.trusted_users)
