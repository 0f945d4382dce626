"""`qslurm token renew` on C1; `qslurm token renewal` and `serve` on C2."""

from __future__ import annotations

import time
from pathlib import Path

import click

from qslurm.cli import streams
from qslurm.cli.output import note, print_facts, print_json
from qslurm.cli.shared_options import CenterFlags, c2_config_option, center_options, json_option
from qslurm.cli.time_format import clock_time
from qslurm.errors import InvalidInputError


@click.command()
@click.option("--now", "at_once", is_flag=True, help="Renew now, even if it is not due.")
@json_option
@center_options
def renew(at_once: bool, as_json: bool, center: CenterFlags) -> None:
    """Replace the token with a new one from C2, once 80% of its lifetime has passed.

    The center's agent does this automatically; without an agent, run this every hour. The new token is tested against
    C2's Slurm before it replaces the old one. Before it is due, this only checks that C2 allows it: exit 4 if not.

    \b
    Examples:
      qslurm token renew --token-file /etc/qslurm/token
      17 * * * *  root  qslurm token renew        # in /etc/cron.d/qslurm
    """
    from qslurm.c1.connection.center_token import renew_file

    config = center.config()
    if config.token is not None:
        raise InvalidInputError(
            "Cannot renew a token that comes from the environment.",
            hint="Unset SLURM_JWT, and use --token-file FILE.",
        )
    if not config.c2.token_file:
        raise InvalidInputError(
            "No token file given.", hint="Use --token-file FILE, or set token_file in the configuration."
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
            f"Renewed the token of {done.claims.user}; it expires {clock_time(done.claims.expires)}."
        )
    else:
        streams.write(
            f"Not due: the token of {done.claims.user} expires {clock_time(done.claims.expires)},"
            f" and can be renewed from {clock_time(done.renew_at)} on."
        )
    if done.ends_soon:
        note(
            f"qslurm: C2 allows renewals only until {clock_time(done.until)}. Ask C2's operators to extend this."
        )


@click.command()
@click.option("--center", required=True, metavar="NAME", help="The center, for example snellius.")
@click.option("--for", "period", metavar="TIME", help="Allow renewals for this long from now: 90d.")
@click.option(
    "--until",
    "date",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="Allow renewals until this date.",
)
@click.option(
    "--stop", is_flag=True, help="Allow no more renewals; the current token stays valid until it expires."
)
@click.option("--lifetime", metavar="TIME", help="Lifetime of a renewed token.  [default: as in [tokens]]")
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
    """Show or change until when a center may renew its token, and the lifetime of renewed tokens.

    Changes take effect immediately. `qslurm token issue` resets them; `qslurm token revoke` invalidates all tokens.

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
        raise click.UsageError("--for, --until and --stop are mutually exclusive.")
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
    """Run C2's renewal service until SIGTERM, under a dedicated user who owns the keys.

    \b
    Example:  qslurm token serve --config /etc/qslurm/c2.toml
    """
    from qslurm.c2.config.file import load_c2_config
    from qslurm.c2.tokens.renewal_service import serve as serve_tokens
    from qslurm.system.event_log import configure

    config = load_c2_config(config_file)
    configure("tokens")
    serve_tokens(config.tokens, user_prefix=config.slurm.user_prefix, masters=config.dispatcher.trusted_users)
