"""The token's file on C1: who may read it, how it gets there."""

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
"""What `scontrol token` prints before the token."""


def read_token(path: str | Path) -> Secret:
    """The token in a file.

    TokenError if the file is missing, or anybody but its owner and its group may read it, or anybody but its
    owner may write it, or it belongs to neither root nor the caller.
    """
    path = Path(path)
    try:
        # O_NONBLOCK: a FIFO put there must not make every command wait for ever.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise TokenError(
            f"There is no token file {path}.",
            hint="A center admin puts it there with `qslurm token install`.",
        ) from None
    except OSError as error:
        raise TokenError(
            f"The token file {path} can't be read: {error.strerror}.",
            hint="Ask your center's admins which users may use it.",
        ) from error
    try:
        _check_access(path, os.fstat(handle))
        return clean(os.read(handle, LIMIT + 1))
    finally:
        os.close(handle)


class FileToken(Secret):
    """The token in a file, whichever that is when it is shown: it may be renewed while a job is waited for.

    The errors of `read_token` at first; later what can't be read leaves the last one that could.
    """

    __slots__ = ("_path", "_seen")

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._seen = version_of(self._path)
        super().__init__(read_token(self._path).reveal())

    def reveal(self) -> str:
        """The text itself."""
        if (version := version_of(self._path)) != self._seen:
            self._seen = version
            with suppress(TokenError):
                self._text = read_token(self._path).reveal()
        return self._text


def version_of(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file does; None if it can't be seen."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def clean(raw: bytes | str) -> Secret:
    """The token in a text that was typed, piped or copied: white space and a leading `SLURM_JWT=` taken away.

    TokenError if there is nothing, or more than one word.
    """
    try:
        text = (raw.decode("ascii") if isinstance(raw, bytes) else raw).strip().removeprefix(_PREFIX)
    except UnicodeDecodeError:
        raise TokenError("This is not a token: it has characters no token has.") from None
    if not text:
        raise TokenError("There is no token: the text is empty.", hint="Paste the token, or pipe its file.")
    if len(text.split()) != 1:
        raise TokenError(
            "This is not a token: it has several words.", hint="Give the token alone, on one line."
        )
    return Secret(text)


def replace_token(path: str | Path, token: Secret) -> None:
    """Put another token into a file that is there: at once, with its mode, owner and group kept.

    TokenError if it can't be.
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
            f"The token in {path} can't be replaced: {error.strerror}.",
            hint=f"Whoever renews it must own the file and may write in {path.parent}.",
        ) from error


def check_replaceable(path: str | Path) -> None:
    """TokenError if `replace_token` would fail here for want of rights."""
    path = Path(path).resolve()
    facts = path.stat()
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise TokenError(
            f"The token in {path} can't be renewed: {path.parent} is not ours to write in.",
            hint="Keep it in a folder of the agent's own, such as /var/lib/qslurm-agent.",
        )
    if os.geteuid() and (facts.st_uid != os.geteuid() or facts.st_gid not in {os.getegid(), *os.getgroups()}):
        raise TokenError(
            f"The token in {path} can't be renewed: its owner or group is not ours.",
            hint="Give the file to who renews it, and a group that this user is in.",
        )


def install_token(text: str | bytes | Secret, path: str | Path, *, group: str | None = None) -> Claims:
    """Put a token into its file, whole or not at all, readable by its owner (0600), or by a group too (0640).

    What root puts into another user's folder, such as the agent's, is that user's.

    Gives what the token says. TokenError if it is no token or has expired, InvalidInputError if there is no
    such group or the file can't be written there.
    """
    path = Path(path)
    token = text if isinstance(text, Secret) else clean(text)
    claims = inspect(token.reveal())
    now = time.time()
    if claims.expires is not None and claims.expired(now):
        raise TokenError(
            f"This token {describe_expiry(claims.expires, now)}.",
            hint="Ask the platform's operators for a new one.",
        )
    gid, mode = (-1, 0o600) if group is None else (_group_id(group), 0o640)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        owner = path.parent.stat().st_uid if os.geteuid() == 0 else -1
        write_atomically(path, f"{token.reveal()}\n".encode(), mode=mode, owner=owner, group=gid)
    except OSError as error:
        raise InvalidInputError(
            f"The token can't be written to {path}: {error.strerror}.",
            hint="Run this as root, or name another file with --file.",
        ) from error
    return claims


def _check_access(path: Path, facts: os.stat_result) -> None:
    mode = stat.S_IMODE(facts.st_mode)
    if not stat.S_ISREG(facts.st_mode):
        raise TokenError(
            f"{path} is not a regular file.", hint="The token's file holds the token and nothing else."
        )
    owners = {0, os.geteuid()}
    if os.geteuid() == 0:  # an admin looks at the agent's, in the agent's folder
        owners.add(path.resolve().parent.stat().st_uid)
    if facts.st_uid not in owners:
        raise TokenError(
            f"The token file {path} belongs to another user (uid {facts.st_uid}).",
            hint="It must belong to root or to you: whoever owns it can replace it.",
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
        raise InvalidInputError(f"There is no group {name!r} on this machine.") from None
