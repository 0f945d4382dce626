"""Runs the job manager's HTTP servers until SIGTERM or SIGINT."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qslurm.c2.config.file import C2Config
from qslurm.errors import ConfigError, UnreachableError
from qslurm.system.event_log import RateLimit, configure

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from qslurm.c2.jobmanager.changes_api import ChangesApi
    from qslurm.wire.credentials import Identity

GRACE_S = 5
"""Seconds that open requests get when the service stops."""

MOST_CONNECTIONS = 512
"""Of these 128 may be idle, and 128 requests may be one center's."""

MOST_LINES = 10
"""Lines that uvicorn logs a minute, at most: invalid requests need no token."""


def parse_listen(text: str, section: str = "jobmanager", port: int = 8042) -> tuple[str, int]:
    """Host and port of `127.0.0.1:8042` or `[::1]:8042`; ConfigError if it is not a loopback address.

    Tokens must not cross a network unencrypted: centers connect to a proxy with TLS.
    """
    host, _, number = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and number.isascii() and number.isdigit() and int(number) < 65536):
        raise ConfigError(
            f"[{section}] listen: invalid address {text!r}.",
            hint=f"Use ADDRESS:PORT, for example 127.0.0.1:{port}.",
        )
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            f"[{section}] listen: {host} is not a loopback address, and the connection is not encrypted.",
            hint=f"Listen on 127.0.0.1:{port} behind a proxy with TLS, as in deploy/c2/nginx.conf.j2.",
        )
    return host, int(number)


def serve(config: C2Config) -> None:
    """Serve until SIGTERM or SIGINT, and finish open requests.

    ConfigError if the address is not a loopback address, UnreachableError if it is in use.
    """
    from qslurm.c2.jobmanager.rest_api import make_app

    configure("jobmanager")
    logging.getLogger("uvicorn.error").addFilter(RateLimit(MOST_LINES))
    host, port = parse_listen(config.jobmanager.listen)
    with _changes_api(config) as changes, answering_metrics(config):
        server = _server(make_app(config, changes), host, port, changes.dismiss if changes else _nothing)
        # uvicorn raises the signal again when it has stopped; it must not end this process.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        try:
            server.run()
        except SystemExit as error:
            raise UnreachableError(
                f"The job manager cannot listen on {config.jobmanager.listen}.",
                hint="Check whether another job manager is running.",
            ) from error


@contextmanager
def _changes_api(config: C2Config) -> Iterator[ChangesApi | None]:
    """The endpoints for clients that follow jobs, if configured."""
    if not config.jobmanager.feed:
        yield None
        return
    from qslurm.c2.jobmanager.changes_api import ChangesApi

    changes = ChangesApi(config)
    try:
        yield changes
    finally:
        changes.close()


def _nothing() -> None:
    """No request waits."""


@contextmanager
def answering_metrics(config: C2Config, *, identity: Identity | None = None) -> Iterator[int]:
    """Serve /metrics in a thread, on its own address, so that clients of one cannot block the other.

    Yields the port (0 if not configured). `identity` identifies us to the dispatcher (default: by MUNGE).
    """
    if not config.metrics.listen:
        yield 0
        return
    from qslurm.c2.jobmanager.metrics_endpoint import make_metrics_app

    host, port = parse_listen(config.metrics.listen, "metrics", 9042)
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise UnreachableError(
            f"The job manager cannot listen on {config.metrics.listen} for metrics: {error.strerror}.",
            hint="Check whether another job manager is running.",
        ) from error
    server = _server(make_metrics_app(config, identity=identity), host, port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="metrics")
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _server(app: ASGIApp, host: str, port: int, dismiss: Callable[[], None] = _nothing) -> uvicorn.Server:
    """A server; on shutdown it calls `dismiss` to have waiting requests answered."""
    import uvicorn

    from qslurm.c2.jobmanager.http_connection import LimitedHttpProtocol

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            dismiss()
            await super().shutdown(sockets)

    return Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=LimitedHttpProtocol,
            lifespan="off",
            access_log=False,  # the proxy logs requests
            server_header=False,
            log_config=None,  # it uses our logging
            log_level="warning",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
