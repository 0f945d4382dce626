"""Renews the center's token in time, loads one that an admin installs, and warns before it expires."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from qslurm.c1.config.settings import expanded
from qslurm.c1.connection.agent_messages import TokenState
from qslurm.c1.connection.center_token import (
    C2Clock,
    ReceivedToken,
    due,
    ends_soon,
    fresh_token,
    renewable_until,
)
from qslurm.errors import QslurmError, TokenError, UnreachableError
from qslurm.system.backoff import Backoff
from qslurm.system.event_log import EventLog
from qslurm.tokens.claims import inspect
from qslurm.tokens.lifetime import describe_expiry
from qslurm.tokens.token_check import refuse_expired
from qslurm.tokens.token_file import check_replaceable, read_token, replace_token, version_of

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.center_token import TokenIssuer
    from qslurm.tokens.secret import HeldToken, Secret

log = EventLog(__name__)

LOOK_S = 10.0
"""Seconds between two checks of the token file."""

CLOCK_S = 3600.0
"""Seconds for which a reading of C2's clock is used."""

TERMS_S = 86400.0
"""Seconds between two checks that C2 allows renewals; shorter if it did not answer."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 600.0
"""Seconds between two attempts."""


class TokenRenewer:
    """A thread that maintains the token of all connections to C2.

    `platform` returns the client of C2's job manager; `check` tests a new token against C2's Slurm before it is used.
    Both may raise any QslurmError.
    """

    def __init__(
        self,
        path: Path,
        held: HeldToken,
        platform: Callable[[], TokenIssuer],
        check: Callable[[Secret], None],
        *,
        user: str = "",
        clock: C2Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._path, self._held, self._user = path, held, user
        self._platform, self._check = platform, check
        self._clock, self._chance = clock or C2Clock(), chance
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewer")
        self._seen: tuple[int, int, int] | None = None  # read again: it may have changed since
        self._pending: ReceivedToken | None = None  # received, but not in use yet
        self._unwritten = False
        self._until: int | None = None
        self._begin()

    @classmethod
    def of(cls, config: Config, held: HeldToken) -> TokenRenewer:
        """The renewer for a center's configuration."""
        from qslurm.c1.connection.api_versions import connect
        from qslurm.c1.connection.center_connection import job_manager_client

        def check(token: Secret) -> None:
            with connect(config, token) as client:
                client.ping()

        path = expanded(config.c2.token_file)
        return cls(path, held, cache(partial(job_manager_client, config, held)), check, user=config.c2.user)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after a renewal in progress."""
        self._stopping.set()
        self._thread.join()

    def state(self) -> TokenState:
        """The token's state. Thread-safe."""
        return TokenState(
            user=self._claims.user,
            expires=self._claims.expires,
            renew_at=None if self._claims.expires is None else self._renew_at,
            renewable_until=self._until,
            ends_soon=ends_soon(self._claims, self._until),
            trouble=self._trouble,
            clock_off_s=self._clock.off(),
        )

    def step(self) -> float:
        """Do what is due; returns the seconds until the next action."""
        try:
            if (version := version_of(self._path)) != self._seen:
                self._seen = version
                self._load()
            self._renew_if_due()
        except QslurmError as error:
            self._warn(error)
        return min(LOOK_S, max(1.0, max(self._renew_at, self._try_at) - self._clock.now()))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                wait = self.step()
            except Exception as error:  # noqa: BLE001 -- a bug must not end the thread
                log.crashed("checking the token failed", error)
                wait = LONGEST_PAUSE_S
            self._stopping.wait(wait)

    def _begin(self) -> None:
        """Start using another token."""
        self._claims = inspect(self._held.reveal(), user=self._user)
        now = self._clock.now()
        self._renew_at, self._overdue_at = due(self._claims, issued=now, chance=self._chance())
        self._tries = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._try_at, self._terms_at = 0.0, 0.0  # by C2's clock
        self._trouble, self._warned_left = "", float("inf")

    def _load(self) -> None:
        """The token file has changed."""
        token = read_token(self._path)
        if token == self._held:
            return
        claims = inspect(token.reveal(), user=self._user)
        refuse_expired(claims, self._clock.now())
        if claims.user != self._claims.user:
            raise TokenError(
                f"The token in {self._path} is now for user {claims.user}.",
                hint="If this is intended, restart the agent.",
            )
        self._held.replace(token)
        self._pending, self._unwritten = None, False
        self._begin()
        log.info("a new token was installed", user=claims.user, expires=claims.expires)

    def _renew_if_due(self) -> None:
        if self._unwritten:
            self._write()
        platform = self._platform()
        self._clock.set_by(platform, every_s=CLOCK_S)
        now = self._clock.now()
        refuse_expired(self._claims, now)
        if now >= max(self._renew_at, self._try_at):
            # set first, so that a failure delays the next attempt
            self._try_at = now + self._tries.fail()
            self._renew(platform)
        elif now >= self._terms_at:
            self._terms_at = now + FIRST_PAUSE_S * 6
            self._check_renewable(platform)

    def _check_renewable(self, platform: TokenIssuer) -> None:
        """Check in advance whether C2 would renew the token."""
        try:
            self._until = renewable_until(platform)
        except UnreachableError as error:
            log.info("cannot ask C2 whether it allows renewals", reason=error.message)
            return
        self._terms_at = self._clock.now() + TERMS_S
        check_replaceable(self._path)
        self._trouble = ""
        if ends_soon(self._claims, self._until):
            log.warning("C2 will soon stop renewing the token", until=self._until)

    def _renew(self, platform: TokenIssuer) -> None:
        self._pending = self._pending or fresh_token(platform, self._claims)
        fresh = self._pending
        try:
            self._check(fresh.token)
        except UnreachableError:
            if self._clock.now() < self._overdue_at:
                raise
            log.warning("cannot test the new token against C2's Slurm; using it anyway")
        except TokenError:
            self._pending = None
            raise
        self._held.replace(fresh.token)
        self._pending, self._unwritten, self._until = None, True, fresh.until
        self._begin()
        log.info("renewed the token", user=fresh.claims.user, expires=fresh.claims.expires, until=fresh.until)
        self._write()

    def _write(self) -> None:
        replace_token(self._path, self._held)
        self._unwritten, self._seen = False, None

    def _warn(self, error: QslurmError) -> None:
        """Log a problem when it is new, and each time half of the remaining time has passed."""
        now = self._clock.now()
        left = (self._claims.expires or now) - now
        if (
            _without_times(error.message) != _without_times(self._trouble)
            or 0 < left <= self._warned_left / 2
        ):
            self._warned_left = left
            ends = describe_expiry(self._claims.expires or now, now)
            log.warning("cannot renew the token", reason=error.message, do=error.hint, token=ends)
        self._trouble = error.message


def _without_times(message: str) -> str:
    """The part of a problem's text that does not change with time."""
    return re.split(r"\d", message, maxsplit=1)[0]
