"""The renewal service: the only daemon on C2 that reads private keys. It answers one kind of request.

It handles one request at a time: signing takes some ten milliseconds, a center renews once in weeks, and only the job
manager and root may connect.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.c2.config.user_ids import uids_of
from qslurm.c2.tokens.keys import list_keys
from qslurm.c2.tokens.renewals import Renewals
from qslurm.errors import ConfigError, QslurmError
from qslurm.protocol.token_renewal import MESSAGE_LIMIT, RenewalReply, RenewalResult, request_decoder
from qslurm.system.event_log import EventLog
from qslurm.tokens.lifetime import parse_lifetime
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.failures import Failed, failure
from qslurm.wire.peer import peer_uid
from qslurm.wire.unix_socket import listen_unix

log = EventLog(__name__)

REQUEST_S = 2.0
"""Time limit for a request to arrive, and for its answer to be sent."""

REFUSAL_LOG_S = 1.0
"""Minimum seconds between two log lines about refused connections."""


def serve(config: TokensConfig, *, user_prefix: str, masters: Sequence[str]) -> None:
    """Serve until SIGTERM or SIGINT; a request in progress is answered first.

    ConfigError without a socket or for an unknown client, InvalidInputError for an invalid lifetime,
    PermissionDeniedError without access to the keys, UnreachableError if the socket is in use.
    """
    if not config.socket:
        raise ConfigError("[tokens] socket is not set.", hint="Set socket under [tokens] in c2.toml.")
    for period in (config.max_lifetime, config.renewed_lifetime):
        parse_lifetime(period)
    service = RenewalService(config, Renewals(config, user_prefix=user_prefix, masters=masters))
    centers = [key.center for key in list_keys(config)]  # fails now, not at the first request
    signaled, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    path = Path(config.socket)
    with listen_unix(path, service="renewal service", setting="socket under [tokens]") as listener:
        log.info("listening", socket=str(path), centers=",".join(centers))
        poll = select.poll()
        poll.register(signaled, select.POLLIN)
        poll.register(listener, select.POLLIN)
        while signaled not in (ready := [number for number, _ in poll.poll()]):
            if ready:
                service.serve_next(listener)
        log.info("stopping")
    path.unlink(missing_ok=True)


class RenewalService:
    """Answers requests of permitted users."""

    def __init__(self, config: TokensConfig, renewals: Renewals) -> None:
        self._renewals = renewals
        self._next_refusal_log = 0.0
        self._clients = {0, os.geteuid(), *uids_of(config.clients, "[tokens] clients")}

    def serve_next(self, listener: socket.socket) -> None:
        """Accept a connection and answer its request. Its errors are logged."""
        connection, _ = listener.accept()
        with connection:
            try:
                self._answer(connection)
            except (OSError, EOFError, msgspec.DecodeError) as error:
                log.warning("connection lost", reason=str(error) or type(error).__name__)

    def _answer(self, connection: socket.socket) -> None:
        uid = peer_uid(connection)
        if uid not in self._clients:
            self._log_refusal(uid)
            return
        link = BlockingConnection(connection, MESSAGE_LIMIT)
        request = request_decoder.decode(link.receive(time.monotonic() + REQUEST_S)[1])
        reply = self._reply(request.token, dry_run=request.dry_run)
        link.send(msgspec.msgpack.encode(reply), time.monotonic() + REQUEST_S)

    def _log_refusal(self, uid: int) -> None:
        now = time.monotonic()
        if now >= self._next_refusal_log:
            self._next_refusal_log = now + REFUSAL_LOG_S
            log.warning("connection refused", uid=uid)

    def _reply(self, token: str, *, dry_run: bool) -> RenewalReply:
        try:
            renewed = self._renewals.check(token) if dry_run else self._renewals.renew(token)
        except QslurmError as error:
            log.warning("refused", reason=error.message)
            return failure(error)
        except Exception as error:  # noqa: BLE001 -- a bug must not end the service or reach a center
            log.crashed("request failed", error)
            return Failed(
                "unexpected",
                "Internal error in C2's renewal service.",
                "C2's operators find the cause in its log.",
            )
        claims = renewed.claims
        if renewed.token is not None:
            about = {"center": renewed.center, "user": claims.user}
            log.info("renewed", **about, expires=claims.expires, until=renewed.until)
        token = renewed.token.reveal() if renewed.token else ""
        return RenewalResult(token, claims.expires or 0, renewed.until)
