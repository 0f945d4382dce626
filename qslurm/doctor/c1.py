"""`qslurm doctor` on C1: checks that this user's jobs can reach C2."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from qslurm import __version__
from qslurm.c1.config.settings import Config, expanded
from qslurm.c1.connection.center_connection import uses_agent
from qslurm.doctor.findings import Check, Finding, fail, ok, warn
from qslurm.errors import ConfigError, QslurmError, TokenError, UnreachableError
from qslurm.tokens.lifetime import describe_expiry

if TYPE_CHECKING:
    from qslurm.c1.connection.agent_messages import AgentStatus
    from qslurm.slurm.rest import SlurmrestClient
    from qslurm.tokens.claims import Claims
    from qslurm.tokens.secret import Secret

PATIENCE_S = 10.0
SKEW_WARN_S, SKEW_FAIL_S = 10.0, 120.0
"""Maximum clock difference in seconds; beyond it, valid tokens seem expired or not yet valid."""


def c1_checks(config: Config) -> dict[str, Check]:
    """The checks, in the order of a submission's path; prefixed with the platform's name if there are several.

    With an agent, a user who may not read the token gets only the checks that the agent can answer.
    """
    checks = {
        "config": _settings,
        "slurmrestd": _slurmrestd,
        "token": _token,
        "accounting": _accounting,
        "renewal": _renewal,
        "clock": _clock,
        "sessions": _sessions,
    }
    if uses_agent(config):
        checks = (
            checks | {"agent": _agent}
            if _reads_token(config)
            else {"agent": _agent, "accounting": _accounting, "sessions": _sessions}
        )
    return _of_platform(config, checks)


def reach_checks(config: Config) -> dict[str, Check]:
    """Checks that need no token: is C2 reachable?"""
    if not config.c2.url:
        return {}
    checks = {"config": _settings, "slurmrestd": _slurmrestd, "clock": _clock}
    return _of_platform(config, checks)


def _of_platform(
    config: Config, checks: Mapping[str, Callable[[Config], Iterable[Finding]]]
) -> dict[str, Check]:
    if len(config.platforms) == 1:
        return {name: partial(check, config) for name, check in checks.items()}
    return {f"{config.platform}: {name}": partial(_named, check, config) for name, check in checks.items()}


def _reads_token(config: Config) -> bool:
    return bool(config.c2.token_file) and os.access(expanded(config.c2.token_file), os.R_OK)


def _named(check: Callable[[Config], Iterable[Finding]], config: Config) -> Iterator[Finding]:
    for finding in check(config):
        yield msgspec.structs.replace(finding, name=f"{config.platform}: {finding.name}")


def _settings(config: Config) -> Iterator[Finding]:
    if config.c2.url:
        yield ok("config", f"C2's URL is {config.c2.url}")
    else:
        yield fail(
            "config",
            "no URL configured for C2",
            f"Set url in [{config.section}] of /etc/qslurm/config.toml, or QSLURM_C2_URL.",
        )
    if not config.c2.results_url:
        do = f"Set results_url in [{config.section}] of /etc/qslurm/config.toml, or QSLURM_RESULTS_URL."
        yield warn("config", "no URL configured for C2's job manager: results and logs are unavailable", do)


def _slurmrestd(config: Config) -> Iterator[Finding]:
    """Check that slurmrestd answers, without sending a token."""
    from qslurm.slurm.rest.classify import classify
    from qslurm.slurm.rest.refusals import error_for
    from qslurm.slurm.rest.transport import Transport
    from qslurm.tokens.secret import Secret

    if not config.c2.url:
        return
    transport = Transport(replace(config.c2.endpoint(config.c2.url, Secret("")), timeout_s=PATIENCE_S))
    try:
        received = transport.send("GET", "/slurm/v0.0.39/ping")
    finally:
        transport.close()
    response = classify(received.status, received.content_type, received.body)
    if response.kind == "broken":
        raise error_for(response, "the ping")
    yield ok("slurmrestd", f"{config.c2.url} answers")


def _token(config: Config) -> Iterator[Finding]:
    from qslurm.c1.connection.api_versions import connect
    from qslurm.tokens.token_check import check_token

    source = config.token or (Path(config.c2.token_file) if config.c2.token_file else None)
    if source is None:
        do = f"Set token_file in [{config.section}], or SLURM_JWT."
        yield fail("token", "no token configured", do)
        return
    report = check_token(source, user=config.c2.user)
    for warning in report.warnings:
        yield warn("token", warning, "")
    yield ok("token", f"{report.claims.user}, {report.expiry}")
    clients: list[SlurmrestClient] = []

    def connect_once(claims: Claims, secret: Secret) -> SlurmrestClient:
        clients.append(connect(config, secret, user=claims.user))
        return clients[0]

    if config.c2.url:
        try:
            checked = check_token(source, connect=connect_once, user=config.c2.user)
        except QslurmError as error:
            yield fail("C2", error.message, error.hint)
        else:
            version = clients[0].api_version
            yield ok("C2", f"{checked.c2}, API {version}; qslurm {__version__}")


def _accounting(config: Config) -> Iterator[Finding]:
    """Check that slurmdbd answers C2; other problems on the way are separate checks."""
    from qslurm.c1.connection.center_connection import open_connection
    from qslurm.c1.queries.accounting import ACCOUNTING_DOWN, ACCOUNTING_HINT, is_accounting_up

    connection = open_connection(config)
    try:
        answers = is_accounting_up(connection.slurm)
    except (TokenError, ConfigError, UnreachableError):
        return
    finally:
        connection.close()
    yield ok("accounting", "answers") if answers else fail("accounting", ACCOUNTING_DOWN, ACCOUNTING_HINT)


def _renewal(config: Config) -> Iterator[Finding]:
    """Check whether, and until when, C2 renews the token."""
    from qslurm.c1.config.center_config import load_token
    from qslurm.c1.connection.center_connection import job_manager_client
    from qslurm.c1.connection.center_token import ends_soon, renewable_until
    from qslurm.tokens.claims import inspect

    if not config.c2.results_url or not (config.token or config.c2.token_file):
        return
    token = load_token(config)
    job_manager = job_manager_client(config, token)
    try:
        until = renewable_until(job_manager)
    except TokenError as error:
        yield warn("renewal", error.message, error.hint)
        return
    finally:
        job_manager.close()
    yield _renewable(until, soon=ends_soon(inspect(token.reveal(), user=config.c2.user), until))


def _renewable(until: int | None, *, soon: bool) -> Finding:
    if until is None:
        return ok("renewal", "C2 allows renewals")
    day = f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d}"
    if soon:
        return warn("renewal", f"C2 allows renewals only until {day}", "Ask C2's operators to extend this.")
    return ok("renewal", f"C2 allows renewals until {day}")


def _agent(config: Config) -> Iterator[Finding]:
    from qslurm.c1.connection.agent_connection import AgentConnection

    connection = AgentConnection(config, lambda _: None)
    try:
        status = connection.status()
    finally:
        connection.close()
    yield from agent_findings(status)


def agent_findings(status: AgentStatus) -> Iterator[Finding]:
    """Findings about the agent and its token, from its status."""
    token = status.token
    yield ok("agent", f"answers; {status.waiting} submissions not yet sent, {status.open} open jobs on C2")
    ends = (
        "never expires"
        if token.expires is None
        else describe_expiry(token.expires, time.time() - token.clock_off_s)
    )
    yield ok("token", f"{token.user}, {ends}")
    if token.trouble:
        yield fail("renewal", token.trouble, "journalctl -u qslurm-agent, on the agent's host")
    else:
        is_known = token.renewable_until is not None
        unknown = ok("renewal", "not yet known whether C2 allows renewals")
        yield _renewable(token.renewable_until, soon=token.ends_soon) if is_known else unknown
    if abs(token.clock_off_s) >= SKEW_WARN_S:
        yield _skew(token.clock_off_s)


def _sessions(config: Config) -> Iterator[Finding]:
    """Check that this node can open sessions; a C2 without sessions is not a failure."""
    from qslurm.c1.connection.center_connection import open_connection
    from qslurm.c1.sessions.opening import find_session_server

    connection = open_connection(config)
    if not connection.has_job_manager:
        return
    try:
        server = find_session_server(connection)
    except QslurmError:  # no sessions, or an error that another check reports
        return
    finally:
        connection.close()
    try:
        server.connect().close()
    except (OSError, UnreachableError) as error:
        do = f"Allow this node to connect to it, or set proxy in [{config.section}]; only `qslurm session` needs it."
        yield warn("sessions", f"{server.address} is unreachable: {error}", do)
    else:
        yield ok("sessions", f"{server.address} is reachable")


def _clock(config: Config) -> Iterator[Finding]:
    from qslurm.c1.connection.job_manager import JobManagerClient
    from qslurm.tokens.secret import Secret

    url = config.c2.results_url
    if not url:
        return
    without_token = config.c2.endpoint(url, Secret(""))  # it tells anybody the time
    client = JobManagerClient(replace(without_token, timeout_s=PATIENCE_S))
    try:
        ahead = time.time() - client.clock()
    except UnreachableError as error:
        yield fail("job manager", error.message, error.hint)
        return
    finally:
        client.close()
    yield ok("job manager", f"{url} answers")
    yield _skew(ahead)


def _skew(ahead: float) -> Finding:
    if abs(ahead) < SKEW_WARN_S:
        return ok("clock", "agrees with C2's")
    state = fail if abs(ahead) > SKEW_FAIL_S else warn
    difference = (
        "ahead of C2's: valid tokens seem expired" if ahead > 0 else "behind C2's: expired tokens seem valid"
    )
    return state("clock", f"is {abs(ahead):.0f} s {difference}", "Synchronize it with NTP.")
