"""The renewal service: the only process on C2 that reads the private keys. It knows one question.

One question at a time: signing takes some ten milliseconds, a center asks once in weeks, and only the job manager and
root are listened to.
"""

from __future__ import annotations

import os
import pwd
import select
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.c2.tokens.keys import list_keys
from qslurm.c2.tokens.renewals import Renewals, RenewedToken
from qslurm.errors import ConfigError, QslurmError
from qslurm.protocol.token_renewal import MESSAGE_LIMIT, RenewalReply, RenewalResult, request_decoder
from qslurm.system.event_log import EventLog
from qslurm.tokens.lifetime import parse_lifetime
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.failures import Failed, failure
from qslurm.wire.peer import peer_uid
from qslurm.wire.unix_socket import listen_unix

log = EventLog(__name__)

QUESTION_S = 2.0
"""For a question to arrive, and for its answer to be taken."""

WORD_S = 1.0
"""Between two words in the log about who may not ask."""


def serve(config: TokensConfig, *, user_prefix: str, masters: Sequence[str]) -> None:
    """Serve until SIGTERM or SIGINT; a question under way is answered first.

    ConfigError if there is no socket or no such client, InvalidInputError for a lifetime that is none,
    PermissionDeniedError without a right to the keys, UnreachableError if the socket is taken.
    """
    if not config.socket:
        raise ConfigError("[tokens] socket is not set.", hint="Set socket under [tokens] in c2.toml.")
    for period in (config.max_lifetime, config.renewed_lifetime):
        parse_lifetime(period)
    service = RenewalService(config, Renewals(config, user_prefix=user_prefix, masters=masters))
    centers = [key.center for key in list_keys(config)]  # now, and not when the first center asks
    ear, bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    path = Path(config.socket)
    with listen_unix(path, service="renewal service", setting="socket under [tokens]") as listener:
        log.info("listening", socket=str(path), centers=",".join(centers))
        poll = select.poll()
        poll.register(ear, select.POLLIN)
        poll.register(listener, select.POLLIN)
        while ear not in (ready := [number for number, _ in poll.poll()]):
            if ready:
                service.next_of(listener)
        log.info("stopping")
    path.unlink(missing_ok=True)


class RenewalService:
    """Answers those who may ask."""

    def __init__(self, config: TokensConfig, renewals: Renewals) -> None:
        self._renewals = renewals
        self._quiet_until = 0.0
        self._clients = {0, os.geteuid(), *map(_uid, config.clients)}

    def next_of(self, listener: socket.socket) -> None:
        """Take the next connection, and answer its question; whatever becomes of it, the service goes on."""
        connection, _ = listener.accept()
        with connection:
            try:
                self._answer(connection)
            except (OSError, EOFError, msgspec.DecodeError) as error:
                log.warning("hung up", reason=str(error) or type(error).__name__)

    def _answer(self, connection: socket.socket) -> None:
        uid = peer_uid(connection)
        if uid not in self._clients:
            self._note(uid)
            return
        asking = BlockingConnection(connection, MESSAGE_LIMIT)
        question = request_decoder.decode(asking.receive(time.monotonic() + QUESTION_S)[1])
        answer = self._answered(question.token, question.dry_run)
        asking.send(msgspec.msgpack.encode(answer), time.monotonic() + QUESTION_S)

    def _note(self, uid: int) -> None:
        """Somebody was turned away; who comes again and again does not fill the log."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + WORD_S
            log.warning("turned away", uid=uid)

    def _answered(self, token: str, only_look: bool) -> RenewalReply:
        try:
            found = self._renewals.look(token) if only_look else self._renewals.renew(token)
        except QslurmError as error:
            log.warning("refused", reason=error.message)
            return failure(error)
        except Exception as error:  # noqa: BLE001 -- a bug must not end the service, nor be told to a center
            log.crashed("a question failed", error)
            return Failed(
                "unexpected",
                "Internal error in C2's renewal service.",
                "C2's operators find the cause in its log.",
            )
        if found.token is not None:
            _audit(found)
        expires = found.claims.expires or 0
        return RenewalResult(found.token.reveal() if found.token else "", expires, found.until)


def _audit(given: RenewedToken) -> None:
    log.info(
        "renewed",
        center=given.center,
        user=given.claims.user,
        expires=given.claims.expires,
        until=given.until,
    )


def _uid(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise ConfigError(
            f"[tokens] clients: unknown user {name}.", hint="Check clients under [tokens]."
        ) from error
