"""Serves the job manager until it is told to stop."""

from __future__ import annotations

import ipaddress
import signal

from qslurm.c2.config import C2Config
from qslurm.errors import ConfigError, UnreachableError

GRACE_S = 5
"""Seconds that requests under way get when the service stops."""

MOST_CONNECTIONS = 256


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:8042` or `[::1]:8042`; ConfigError if it is not a loopback address.

    Tokens must not cross a network in the clear, so a proxy with TLS stands before this service.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ConfigError(
            f"`listen` in [jobmanager] is {text!r}.", hint="Write an address and a port: 127.0.0.1:8042."
        )
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            f"The job manager may not listen on {host}: tokens would cross the network in the clear.",
            hint="Listen on 127.0.0.1, and put the proxy with TLS from deploy/ before it.",
        )
    return host, int(port)


def serve(config: C2Config) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way; returns then.

    ConfigError for an address that is no loopback address, UnreachableError if it is taken.
    """
    import uvicorn

    from qslurm.jobmanager.app import make_app
    from qslurm.jobmanager.connection import ImpatientProtocol

    host, port = parse_listen(config.jobmanager.listen)
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(config),
            host=host,
            port=port,
            http=ImpatientProtocol,
            lifespan="off",
            access_log=False,  # paths are harmless, but a log of who asks what is the proxy's
            server_header=False,
            log_level="warning",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    # uvicorn raises the signal again when it is done; by then there is nothing left to interrupt.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        server.run()
    except SystemExit as error:
        raise UnreachableError(
            f"The job manager can't listen on {config.jobmanager.listen}.",
            hint="Is another one running there?",
        ) from error
