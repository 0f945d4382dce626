"""The token file on C1: permissions, reading, installation and renewal."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from qslurm.errors import InvalidInputError, TokenError
from qslurm.system.atomic_file import write_atomically
from qslurm.tokens.claims import LIMIT, Claims, inspect
from qslurm.tokens.lifetime import describe_expiry
from qslurm.tokens.secret import Secret

_PREFIX = "SLURM_JWT="
"""The prefix that `scontrol token` prints."""


def read_token(path: str | Path) -> Secret:
    """Read the token from a file.

    TokenError if the file is missing, readable by others than its owner and group, writable by others than its owner,
    or owned by neither root nor the caller.
    """
    path = Path(path)
    try:
        # O_NONBLOCK: a FIFO in its place must not block every command.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise TokenError(
            f"Token file {path} not found.",
            hint="A center admin installs it with `qslurm token install`.",
        ) from None
    except OSError as error:
        raise TokenError(
            f"Cannot read the token file {path}: {error.strerror}.",
            hint="Ask your center's admins for access to it.",
        ) from error
    try:
        _check_access(path, os.fstat(handle))
        return clean(os.read(handle, LIMIT + 1))
    finally:
        os.close(handle)


class FileToken(Secret):
    """A token re-read from its file on each use, since it may be renewed during a wait.

    The constructor raises the errors of `read_token`; later the last readable token stays.
    """

    __slots__ = ("_path", "_seen")

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._seen = version_of(self._path)
        super().__init__(read_token(self._path).reveal())

    def reveal(self) -> str:
        """The current token."""
        if (version := version_of(self._path)) != self._seen:
            self._seen = version
            with suppress(TokenError):
                self._text = read_token(self._path).reveal()
        return self._text


def version_of(path: Path) -> tuple[int, int, int] | None:
    """A value that changes with the file; None if unreadable."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def clean(raw: bytes | str) -> Secret:
    """Extract the token from input: strips white space and a leading `SLURM_JWT=`.

    TokenError if the input is empty or has more than one word.
    """
    try:
        text = (raw.decode("ascii") if isinstance(raw, bytes) else raw).strip().removeprefix(_PREFIX)
    except UnicodeDecodeError:
        raise TokenError("Invalid token: it contains characters that no token has.") from None
    if not text:
        raise TokenError("No token given: the input is empty.", hint="Paste the token, or pipe its file.")
    if len(text.split()) != 1:
        raise TokenError(
            "Invalid token: it contains white space.", hint="Provide only the token, on one line."
        )
    return Secret(text)


def replace_token(path: str | Path, token: Secret) -> None:
    """Replace the token in an existing file atomically, keeping mode, owner and group.

    TokenError if that fails.
    """
    path = Path(path).resolve()
    try:
        facts = path.stat()
        write_atomically(
            path,
            f"{token.reveal()}\n".encode(),
            mode=stat.S_IMODE(facts.st_mode) & 0o640,
            owner=facts.st_uid if facts.st_uid != os.geteuid() else -1,
            group=facts.st_gid,
        )
    except OSError as error:
        raise TokenError(
            f"Cannot replace the token in {path}: {error.strerror}.",
            hint=f"The user who renews it must own the file and be able to write to {path.parent}.",
        ) from error


def check_replaceable(path: str | Path) -> None:
    """TokenError if this process lacks the permissions for `replace_token`."""
    path = Path(path).resolve()
    facts = path.stat()
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise TokenError(
            f"Cannot renew the token in {path}: {path.parent} is not writable.",
            hint="Keep it in the agent's own directory, for example /var/lib/qslurm-agent.",
        )
    if os.geteuid() and (facts.st_uid != os.geteuid() or facts.st_gid not in {os.getegid(), *os.getgroups()}):
        raise TokenError(
            f"Cannot renew the token in {path}: the file's owner or group differs from this user's.",
            hint="Change its owner to the user who renews it, and its group to one of that user's.",
        )


def install_token(text: str | bytes | Secret, path: str | Path, *, group: str | None = None) -> Claims:
    """Install a token atomically, with mode 0600, or 0640 for a group.

    If root installs it in another user's directory, such as the agent's, it belongs to that user.

    Returns its claims. TokenError if it is invalid or has expired, InvalidInputError for an unknown group or a file
    that can't be written.
    """
    path = Path(path)
    token = text if isinstance(text, Secret) else clean(text)
    claims = inspect(token.reveal())
    now = time.time()
    if claims.expires is not None and claims.expired(now):
        raise TokenError(
            f"This token {describe_expiry(claims.expires, now)}.",
            hint="Ask C2's operators for a new token.",
        )
    gid, mode = (-1, 0o600) if group is None else (_group_id(group), 0o640)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        owner = path.parent.stat().st_uid if os.geteuid() == 0 else -1
        write_atomically(path, f"{token.reveal()}\n".encode(), mode=mode, owner=owner, group=gid)
    except OSError as error:
        raise InvalidInputError(
            f"Cannot write the token to {path}: {error.strerror}.",
            hint="Run as root, or use --file to write another file.",
        ) from error
    return claims


def _check_access(path: Path, facts: os.stat_result) -> None:
    mode = stat.S_IMODE(facts.st_mode)
    if not stat.S_ISREG(facts.st_mode):
        raise TokenError(f"{path} is not a regular file.", hint="Use a file that contains only the token.")
    owners = {0, os.geteuid()}
    if os.geteuid() == 0:  # an admin reads the agent's token, in the agent's directory
        owners.add(path.resolve().parent.stat().st_uid)
    if facts.st_uid not in owners:
        raise TokenError(
            f"The token file {path} belongs to another user (uid {facts.st_uid}).",
            hint="Its owner can replace it: change the owner to root or to you.",
        )
    if mode & 0o037:
        others = "anybody" if mode & 0o007 else "its group"
        what = "read" if mode & 0o004 else "change" if mode & 0o022 else "use"
        raise TokenError(
            f"The token file {path} has mode {mode:04o}: {others} may {what} it.",
            hint=f"Run `chmod 600 {path}` (or 640 for a group), and ask for a new token if it was seen.",
        )


def _group_id(name: str) -> int:
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise InvalidInputError(f"Unknown group {name!r}.") from None
