"""Serves the job manager until it is told to stop."""

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
from qslurm.system.event_log import AtMost, configure

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from qslurm.c2.jobmanager.changes_api import ChangesApi
    from qslurm.wire.credentials import Identity

GRACE_S = 5
"""Seconds that requests under way get when the service stops."""

MOST_CONNECTIONS = 512
"""Of these, 128 may have no request under way, and of the requests 128 may be one center's."""

MOST_LINES = 10
"""That uvicorn logs in a minute: anybody can send what is no request."""


def parse_listen(text: str, section: str = "jobmanager", port: int = 8042) -> tuple[str, int]:
    """Host and port of `127.0.0.1:8042` or `[::1]:8042`; ConfigError if it is not a loopback address.

    Tokens must not cross a network in the clear, so a proxy with TLS stands before this service.
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
    """Serve until SIGTERM or SIGINT, then finish what is under way; returns then.

    ConfigError for an address that is no loopback address, UnreachableError if it is taken.
    """
    from qslurm.c2.jobmanager.rest_api import make_app

    configure("jobmanager")
    logging.getLogger("uvicorn.error").addFilter(AtMost(MOST_LINES))
    host, port = parse_listen(config.jobmanager.listen)
    with _changes_api(config) as changes, answering_metrics(config):
        dismiss = changes.dismiss if changes else _nobody_waits
        server = _server(make_app(config, changes), host, port, dismiss)
        # uvicorn raises the signal again when it is done; by then there is nothing left to interrupt.
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
    """What centers follow their jobs by, if the configuration has it."""
    if not config.jobmanager.feed:
        yield None
        return
    from qslurm.c2.jobmanager.changes_api import ChangesApi

    changes = ChangesApi(config)
    try:
        yield changes
    finally:
        changes.close()


def _nobody_waits() -> None:
    """All answers come at once."""


@contextmanager
def answering_metrics(config: C2Config, *, identity: Identity | None = None) -> Iterator[int]:
    """Answer /metrics meanwhile, in a thread: who fills the one address up does not close the other.

    The port is given (0 if none is configured). `identity` is how the dispatcher knows us (default: MUNGE).
    """
    if not config.metrics.listen:
        yield 0
        return
    from qslurm.c2.jobmanager.metrics_endpoint import make_metrics_app

    host, port = parse_listen(config.metrics.listen, "metrics", 9042)
    try:
        door = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UnreachableError(
            f"The job manager cannot listen on {config.metrics.listen} for metrics: {error.strerror}.",
            hint="Check whether another job manager is running.",
        ) from error
    server = _server(make_metrics_app(config, identity=identity), host, port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, name="metrics")
    thread.start()
    try:
        yield door.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        door.close()


def _server(
    app: ASGIApp, host: str, port: int, dismiss: Callable[[], None] = _nobody_waits
) -> uvicorn.Server:
    """A server that has those who wait for something answered, by `dismiss`, before it waits for their answers."""
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
            access_log=False,  # paths are harmless, but a log of who asks what is the proxy's
            server_header=False,
            log_config=None,  # what it says goes where our own lines go
            log_level="warning",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
