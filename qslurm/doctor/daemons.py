"""Checks each daemon on C2's head node separately, so that the failing one is named."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qslurm.c2.config.file import C2Config
from qslurm.c2.gate import heartbeat
from qslurm.c2.slurm_commands import SlurmCommands
from qslurm.doctor.findings import PATIENCE_S, Finding, fail, ok, warn
from qslurm.errors import QslurmError, TokenError, UnreachableError

MOST_CONCURRENT_NODES = 16
_MYSQL_SOCKETS = ("/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock")


def slurm_of(config: C2Config) -> SlurmCommands:
    """Slurm's commands with doctor's time-out."""
    return SlurmCommands(config.slurm, timeout_s=PATIENCE_S)


def munge(config: C2Config) -> Iterator[Finding]:
    """Check that munged encodes and decodes a credential."""
    from qslurm.wire.credentials import Munge

    daemon = Munge(config.dispatcher.munge_socket, timeout_s=PATIENCE_S)
    try:
        daemon.verify(daemon.sign(b"doctor"), b"doctor")
    except UnreachableError as error:
        yield fail("munge", error.message, "systemctl status munge; Slurm and qslurm authenticate with it.")
    else:
        yield ok("munge", "encodes and decodes credentials")


def dispatcher(config: C2Config) -> Iterator[Finding]:
    """Check that the dispatcher answers and can store results, and the backends' states."""
    from qslurm.protocol.dispatcher_client import DispatcherClient
    from qslurm.protocol.messages import GetStatus, Status

    try:
        with DispatcherClient(config.dispatcher.socket, timeout_s=PATIENCE_S) as client:
            status = client.ask(GetStatus())
    except UnreachableError as error:
        yield fail(
            "dispatcher", error.message, "systemctl status qslurm-dispatcher; journalctl -u qslurm-dispatcher"
        )
        return
    assert isinstance(status, Status)
    if not status.ready:
        do = "Check its disk and its store; it recovers by itself. journalctl -u qslurm-dispatcher"
        yield fail("dispatcher", f"is not ready: {status.reason}", do)
    else:
        yield ok("dispatcher", f"answers, version {status.version}")
    for backend in status.backends:
        name = f"backend {backend.name}"
        if backend.state == "offline":
            do = f"qslurm backend online {backend.name}, if it should be online."
            yield warn(name, f"is offline: {backend.reason}", do)
        else:
            yield ok(name, backend.state)


def slurmctld(config: C2Config) -> Iterator[Finding]:
    """Check that slurmctld answers scontrol."""
    try:
        slurm_of(config).settings()
    except UnreachableError as error:
        yield fail("slurmctld", error.message, "systemctl status slurmctld; see its log.")
    else:
        yield ok("slurmctld", "answers")


def slurmdbd(config: C2Config) -> Iterator[Finding]:
    """Check that slurmdbd answers sacctmgr from its database."""
    try:
        slurm_of(config).clusters()
    except QslurmError as error:
        do = "systemctl status slurmdbd; jobs continue, but history and usage are unavailable."
        yield fail("slurmdbd", error.message, do)
    else:
        yield ok("slurmdbd", "answers, and reads its database")


def mariadb(config: C2Config) -> Iterator[Finding]:
    """Check that slurmdbd's database sends its greeting; skipped without slurmdbd.conf."""
    path = Path(config.slurm.conf).with_name("slurmdbd.conf")
    if not path.exists():
        return
    pairs = (line.partition("=") for line in path.read_text().splitlines() if not line.startswith("#"))
    settings = {name.strip().lower(): value.strip() for name, _, value in pairs}
    host, port = settings.get("storagehost", "localhost"), settings.get("storageport", "3306")
    place = f"{host}:{port}"
    try:
        with _database(host, int(port)) as connection:
            greets = bool(connection.recv(1))  # the server speaks first
        why = "" if greets else "it closed the connection"
    except OSError as error:
        why = _words(error)
    if why:
        do = "systemctl status mariadb; slurmctld queues records meanwhile."
        yield fail("mariadb", f"slurmdbd's database at {place} does not answer: {why}", do)
    else:
        yield ok("mariadb", f"answers at {place}")


def _database(host: str, port: int) -> socket.socket:
    """Connect as MySQL clients do: to localhost by a Unix socket."""
    local = next((path for path in _MYSQL_SOCKETS if host == "localhost" and Path(path).exists()), None)
    if local is None:
        return socket.create_connection((host, port), PATIENCE_S)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE_S)
    connection.connect(local)
    return connection


def slurmd(config: C2Config) -> Iterator[Finding]:
    """Check each node's slurmd; slurmctld notices a dead one only after SlurmdTimeout."""
    slurm = slurm_of(config)
    nodes = slurm.nodes()
    with ThreadPoolExecutor(MOST_CONCURRENT_NODES) as pool:
        troubles = dict(zip(nodes, pool.map(lambda node: _node_trouble(slurm, node), nodes), strict=True))
    for node, state in nodes.items():
        name = f"slurmd {node}"
        if why := troubles[node]:
            yield fail(name, why, f"systemctl status slurmd on {node}; its running jobs continue.")
        elif "drain" in state or "down" in state:
            do = f"scontrol show node {node} says why; scontrol update NodeName={node} State=RESUME"
            yield warn(name, f"answers, but its node is {state}: no jobs start there", do)
        else:
            yield ok(name, f"answers; its node is {state}")


def _node_trouble(slurm: SlurmCommands, node: str) -> str:
    try:
        slurm.slurmd(node)
    except QslurmError as error:
        return error.message
    return ""


def slurmrestd(config: C2Config) -> Iterator[Finding]:
    """Check that slurmrestd answers HTTP, with any status."""
    address = config.jobmanager.slurmrestd.removeprefix("http://")
    yield check_http("slurmrestd", address, "/", "slurmrestd", expected=())


def proxy(config: C2Config) -> Iterator[Finding]:
    """Check that the TLS proxy in front of slurmrestd and the job manager answers, with any status."""
    if config.jobmanager.proxy:
        yield check_http("proxy", config.jobmanager.proxy, "/", "nginx", expected=(), tls=True)


def gate(config: C2Config, patience_s: float = PATIENCE_S - 0.2) -> Iterator[Finding]:
    """Check that the gate has run recently."""
    folder, interval_s = config.gate.state, config.gate.interval_s
    began = time.monotonic()
    while True:
        age_s, waited_s = heartbeat.age_s(folder), time.monotonic() - began
        if age_s is not None and age_s < waited_s:
            yield ok("gate", "is running")
            return
        if waited_s > patience_s:
            break
        time.sleep(0.05)
    if age_s is not None and age_s < interval_s:
        yield ok("gate", f"last ran {age_s:.1f} s ago")
        return
    since = "has not run since this host started" if age_s is None else f"has not run for {age_s:.0f} s"
    do = "systemctl status qslurm-gate; partitions keep their states until it runs again."
    yield fail("gate", since, do)


def job_manager(config: C2Config) -> Iterator[Finding]:
    """Check that the job manager answers."""
    yield check_http("job manager", config.jobmanager.listen, "/healthz", "qslurm-jobmanager")


def metrics(config: C2Config) -> Iterator[Finding]:
    """Check that metrics are served, if configured."""
    if config.metrics.listen:
        yield check_http("metrics", config.metrics.listen, "/metrics", "qslurm-jobmanager")
    else:
        yield ok("metrics", "are disabled in the configuration")


def renewals(config: C2Config) -> Iterator[Finding]:
    """Check that the renewal service refuses an invalid token."""
    from qslurm.protocol.token_renewal import request_renewal
    from qslurm.tokens.secret import Secret

    if not config.tokens.socket:
        do = "Set socket in [tokens], and start qslurm-tokens."
        yield warn("renewals", "tokens are not renewed: centers need a new token before theirs expires", do)
        return
    try:
        request_renewal(config.tokens.socket, Secret("not.a.token"), dry_run=True, timeout_s=PATIENCE_S)
    except TokenError:  # the expected refusal
        yield ok("renewals", f"the service answers at {config.tokens.socket}")
    except UnreachableError:
        do = "systemctl status qslurm-tokens"
        yield fail("renewals", f"the service does not answer at {config.tokens.socket}", do)


def check_http(
    name: str, address: str, path: str, unit: str, *, expected: tuple[int, ...] = (200,), tls: bool = False
) -> Finding:
    """Check that an HTTP server answers at an address, with one of the `expected` statuses if given."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    kind = http.client.HTTPConnection
    connection = kind(host, int(port or 80), timeout=PATIENCE_S)
    try:
        connection.connect()
        if tls:  # only whether it answers; its certificate is not checked
            context = ssl._create_unverified_context()  # noqa: S323
            connection.sock = context.wrap_socket(connection.sock)
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return fail(name, f"does not answer at {address}: {_words(error)}", f"systemctl status {unit}")
    finally:
        connection.close()
    if expected and status not in expected:
        return fail(name, f"answers HTTP {status} at {address}", f"journalctl -u {unit}")
    return ok(name, f"answers at {address}")


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE_S:g} s"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
