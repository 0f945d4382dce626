"""`qslurm doctor` on C1: can this user's jobs reach C2?"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import msgspec

from qslurm.center.config import Config
from qslurm.doctor.finding import Check, Finding, fail, ok, warn

PATIENCE_S = 10.0
SKEW_WARN_S, SKEW_FAIL_S = 10.0, 120.0
"""Tokens carry times: a clock that is off makes good ones look expired, or not yet valid."""


def c1_checks(config: Config) -> dict[str, Check]:
    """What there is to look at, in the order of a submission's way; of one of several platforms with its name."""
    looks = {"config": _settings, "token": _token, "clock": _clock}
    if len(config.platforms) == 1:
        return {name: partial(look, config) for name, look in looks.items()}
    return {f"{config.platform}: {name}": partial(_named, look, config) for name, look in looks.items()}


def _named(look: Callable[[Config], Iterable[Finding]], config: Config) -> Iterator[Finding]:
    for finding in look(config):
        yield msgspec.structs.replace(finding, name=f"{config.platform}: {finding.name}")


def _settings(config: Config) -> Iterator[Finding]:
    if config.c2.url:
        yield ok("config", f"C2 is {config.c2.url}")
    else:
        yield fail(
            "config",
            "nobody said where C2 is",
            f"Set url in [{config.section}] of /etc/qslurm/config.toml, or QSLURM_C2_URL.",
        )
    if not config.c2.results_url:
        do = f"Set results_url in [{config.section}] of /etc/qslurm/config.toml, or QSLURM_RESULTS_URL."
        yield warn("config", "nobody said where C2's job manager is: no results, no logs", do)


def _token(config: Config) -> Iterator[Finding]:
    from qslurm.center.versions import connect
    from qslurm.tokens.check import check_token

    source = config.token or (Path(config.c2.token_file) if config.c2.token_file else None)
    if source is None:
        do = f"Set token_file in [{config.section}], or SLURM_JWT."
        yield fail("token", "nobody said where the token is", do)
        return
    report = check_token(source, user=config.c2.user)
    for warning in report.warnings:
        yield warn("token", warning, "")
    yield ok("token", f"{report.claims.user}, {report.expiry}")
    if config.c2.url:
        checked = check_token(
            source,
            connect=lambda claims, secret: connect(config, secret, user=claims.user),
            user=config.c2.user,
        )
        yield ok("C2", checked.c2)


def _clock(config: Config) -> Iterator[Finding]:
    import requests

    url = config.c2.results_url
    if not url:
        return
    try:
        with requests.Session() as session:
            session.trust_env = False
            proxies = {"http": config.c2.proxy, "https": config.c2.proxy} if config.c2.proxy else {}
            answer = session.get(
                f"{url.rstrip('/')}/healthz",
                timeout=PATIENCE_S,
                proxies=proxies,
                verify=config.c2.ca_file or True,
            )
    except requests.RequestException as error:
        yield fail(
            "job manager",
            f"{url} does not answer: {type(error).__name__}",
            "Ask C2's operators, or look at the network.",
        )
        return
    yield ok("job manager", f"{url} answers")
    date = answer.headers.get("Date", "")
    if not date:
        return
    ahead = time.time() - email.utils.parsedate_to_datetime(date).timestamp()
    if abs(ahead) < SKEW_WARN_S:
        yield ok("clock", "goes as C2's does")
        return
    state = fail if abs(ahead) > SKEW_FAIL_S else warn
    way = "ahead of" if ahead > 0 else "behind"
    yield state("clock", f"is {abs(ahead):.0f} s {way} C2's: good tokens look expired", "Let NTP set it.")
