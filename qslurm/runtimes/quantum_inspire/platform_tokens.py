"""The credentials for Quantum Inspire: how they are kept, read and renewed.

The file is the one that `qi login` writes (`~/.quantuminspire/config.json`), or a copy of it. It belongs to the
dispatcher's user, and no other user may read it. An expiring token is renewed and the file rewritten: most
identity providers accept each refresh token once.
"""

from __future__ import annotations

import fcntl
import ipaddress
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from qslurm.errors import ConfigError, QslurmError
from qslurm.system.atomic_file import write_atomically

if TYPE_CHECKING:
    from qi2_shared.settings import ApiSettings, TokenInfo

log = logging.getLogger(__name__)

_FILE_LIMIT = 256 * 1024  # bytes
_ANSWER_LIMIT = 256 * 1024  # bytes of an identity provider's reply
_EARLY_S = 30.0
"""A token that expires sooner than this is renewed: it has to last for one request."""
_LOCK_S = 0.05


Fetch = Callable[[str, dict[str, str] | None, float], dict[str, Any]]


class LoginError(QslurmError):
    """There is no valid token, and none can be obtained now."""


class Tokens:
    """The credentials file, read again whenever it has changed.

    The official client's `Configuration` calls `refresh` before each request. Raises ConfigError if the file is
    unusable.
    """

    def __init__(self, path: str, timeout_s: float, *, fetch: Fetch | None = None) -> None:
        self._path = Path(path)
        self._timeout_s = timeout_s
        self._fetch = fetch or fetch_json
        self._read_version: tuple[int, int, int] | None = None
        self._settings = self._read()
        self.host = self._settings.default_host
        """The platform's address. It does not change while this process lives."""

    @property
    def member(self) -> int | None:
        """The id of the team member who submits; None if the file has none."""
        found: int | None = self._settings.auths[self.host].team_member_id
        return found

    def refresh(self) -> TokenInfo:
        """A valid token; LoginError if none can be obtained."""
        try:
            self._reread()
            if (token := self._valid()) is not None:
                return token
            with self._lock():
                self._reread()  # another process may have renewed it in the meantime
                return self._valid() or self._renew()
        except ConfigError as error:
            raise LoginError(error.message.rstrip(".")) from error

    # --- the file ------------------------------------------------------------------------------------

    def _reread(self) -> None:
        settings = self._read() if self._version() != self._read_version else self._settings
        if settings.default_host != self.host:
            raise ConfigError(f"{self._path} now names {settings.default_host}: restart the dispatcher.")
        self._settings = settings

    def _version(self) -> tuple[int, int, int] | None:
        try:
            facts = self._path.stat()
        except OSError:
            return None  # reading it reports the error
        return facts.st_ino, facts.st_mtime_ns, facts.st_size

    def _read(self) -> ApiSettings:
        from qi2_shared.settings import ApiSettings

        self._read_version = self._version()
        data = _read_private(self._path)
        try:
            settings = ApiSettings.model_validate_json(data)
            login = settings.auths[settings.default_host]
        except (ValueError, KeyError):  # not chained: the error quotes the file
            raise ConfigError(
                f"Invalid credentials in {self._path}.",
                hint="Log in again with `qi login`, and copy ~/.quantuminspire/config.json there.",
            ) from None
        if login.tokens is None:
            raise ConfigError(f"No token for {settings.default_host} in {self._path}.")
        refuse_clear_text(settings.default_host)
        return settings

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Only one process renews the token: an identity provider may take a second use of the old one for theft."""
        path = self._path.with_name(self._path.name + ".lock")
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise LoginError(f"cannot renew the token: cannot create {path}: {error.strerror}") from error
        try:
            until = time.monotonic() + self._timeout_s
            while not _locked(handle):
                if time.monotonic() > until:
                    raise LoginError(f"cannot renew the token: {path} is locked by another process")
                time.sleep(_LOCK_S)
            yield
        finally:
            os.close(handle)

    # --- the token -----------------------------------------------------------------------------------

    def _valid(self) -> TokenInfo | None:
        token = self._settings.auths[self.host].tokens
        return token if token is not None and token.access_expires_at > time.time() + _EARLY_S else None

    def _renew(self) -> TokenInfo:
        from qi2_shared.settings import TokenInfo

        login = self._settings.auths[self.host]
        if login.tokens is None:
            raise LoginError(f"no token for {self.host} in {self._path}")
        endpoint = self._fetch(login.well_known_endpoint, None, self._timeout_s).get("token_endpoint")
        form = {
            "grant_type": "refresh_token",
            "client_id": login.client_id,
            "refresh_token": login.tokens.refresh_token,
        }
        answer = self._fetch(str(endpoint), form, self._timeout_s)
        # A provider that keeps refresh tokens does not send them again.
        answer = {"refresh_token": login.tokens.refresh_token, **answer, "generated_at": time.time()}
        try:
            token = TokenInfo(**answer)
        except (ValueError, TypeError):
            raise LoginError("invalid reply from the identity provider") from None
        login.tokens = token
        try:
            write_atomically(self._path, self._settings.model_dump_json(indent=2).encode(), mode=0o600)
        except OSError:
            log.exception("cannot save the renewed token in %s", self._path)
        else:
            self._read_version = self._version()
        return token


def refuse_clear_text(url: str) -> None:
    """Raise ConfigError for an address to which a token would be sent unencrypted; loopback is allowed."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ConfigError(f"{url!r} is not an https address: tokens would be sent unencrypted.")


def _read_private(path: Path) -> bytes:
    """Read a file that belongs to this user and that no other user may read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
                raise ConfigError(
                    f"The credentials {path} are not a regular file owned by the dispatcher's user.",
                    hint=f"Run chown and chmod 600 on {path}.",
                )
            if facts.st_mode & 0o077:
                raise ConfigError(
                    f"The credentials {path} are readable by others (mode {stat.S_IMODE(facts.st_mode):o}).",
                    hint=f"chmod 600 {path}",
                )
            data = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(
            f"Cannot read the credentials {path}: {error.strerror}.",
            hint="Log in with `qi login`, and copy ~/.quantuminspire/config.json there (mode 600).",
        ) from error
    if len(data) > _FILE_LIMIT:
        raise ConfigError(f"The credentials file {path} is too large.")
    return data


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fetch_json(url: str, form: dict[str, str] | None, timeout_s: float) -> dict[str, Any]:
    """Query the identity provider (POST with a form, else GET); LoginError with a reason that quotes no token.

    The official client does this without any limit of time or size.
    """
    import requests

    refuse_clear_text(url)
    until = time.monotonic() + timeout_s
    try:
        with requests.request(
            "GET" if form is None else "POST",
            url,
            data=form,
            timeout=timeout_s,
            stream=True,
            allow_redirects=False,
        ) as response:
            data = b""
            for chunk in response.iter_content(16 * 1024):
                data += chunk
                if len(data) > _ANSWER_LIMIT or time.monotonic() > until:
                    raise LoginError("the identity provider's reply is too long or too slow")
            status = response.status_code
    except requests.RequestException as error:
        raise LoginError(f"no reply from the identity provider ({type(error).__name__})") from None
    if status != 200:
        raise LoginError(
            f"the identity provider refused to renew the token (HTTP {status}): log in again with `qi login`"
        )
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise LoginError("invalid reply from the identity provider") from None
