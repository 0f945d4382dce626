"""Who is asking? Three ways to know, chosen when a client or a dispatcher is made.

On C2 it is MUNGE: the credential carries the SHA-256 of the message, so it proves this message only, and
munged itself refuses to decode it a second time. A dispatcher that serves one user alone listens in a folder that
nobody else can enter, or has been given its one connection (`qslurm run`), and needs no credential.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Protocol

from qslurm.errors import ConfigError, PermissionDeniedError, UnreachableError

LIFETIME_S = 60
"""How long after it was made a credential is taken; also what is asked of munged as its time to live."""

_FACT = re.compile(rb"^([A-Z_]+):\s+(\S+)", re.MULTILINE)


class Identity(Protocol):
    """How senders prove who they are, and how that is checked."""

    instant: bool
    """Whether `verify` never waits for anything."""

    def sign(self, body: bytes) -> bytes:
        """A credential of this process's user for this body."""
        ...

    def verify(self, credential: bytes, body: bytes) -> int:
        """The uid of whoever made the credential for this body; PermissionDeniedError otherwise."""
        ...


class OwnConnection:
    """Whoever has the connection is this process's user: it was inherited."""

    instant = True

    def sign(self, body: bytes) -> bytes:  # noqa: ARG002 - the connection says who it is
        """Nothing."""
        return b""

    def verify(self, credential: bytes, body: bytes) -> int:  # noqa: ARG002 - the connection says who it is
        """The own uid."""
        return os.getuid()


class OwnFolder(OwnConnection):
    """Whoever can reach the socket is this process's user: its folder is that user's and closed to others."""

    def __init__(self, folder: Path) -> None:
        facts = folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            raise ConfigError(
                f"{folder} must be a folder of this user's that others can't enter (mode 0700)."
            )


class Munge:
    """MUNGE, through its programs `munge` and `unmunge`; `socket` is munged's ("" for its default)."""

    instant = False

    def __init__(self, socket: str = "", *, timeout_s: float = 5.0) -> None:
        self._socket = [f"--socket={socket}"] if socket else []
        self._timeout_s = timeout_s

    def sign(self, body: bytes) -> bytes:
        """A credential that proves the user and the body; UnreachableError if munged gives none."""
        done = self._call("munge", [f"--ttl={LIFETIME_S}"], _digest(body))
        if done.returncode != 0:
            raise UnreachableError(
                f"munge gave no credential: {_first_line(done.stderr)}.",
                hint="Is munged running on this host?",
            )
        return done.stdout.strip()

    def verify(self, credential: bytes, body: bytes) -> int:
        """The sender's uid, if the credential is fresh, not used before, and made for this very body."""
        if not credential.startswith(b"MUNGE:"):
            raise PermissionDeniedError("The message came without a MUNGE credential.")
        done = self._call("unmunge", ["--numeric"], credential)
        if done.returncode != 0:
            raise PermissionDeniedError(f"The MUNGE credential was refused: {_first_line(done.stderr)}.")
        head, _, payload = done.stdout.partition(b"\n\n")
        facts = {name.decode(): value for name, value in _FACT.findall(head)}
        if not facts.keys() >= {"UID", "ENCODE_TIME", "DECODE_TIME"}:
            raise PermissionDeniedError("unmunge said nothing that can be understood.")
        age = int(facts["DECODE_TIME"]) - int(facts["ENCODE_TIME"])
        if abs(age) > LIFETIME_S:
            raise PermissionDeniedError(f"The MUNGE credential is {age} s old; {LIFETIME_S} s are allowed.")
        if payload.strip() != _digest(body):
            raise PermissionDeniedError("The MUNGE credential was made for another message.")
        return int(facts["UID"])

    def _call(self, program: str, options: list[str], text: bytes) -> subprocess.CompletedProcess[bytes]:
        # Slurm's hooks have no PATH; Debian and Red Hat both have the programs here.
        path = Path("/usr/bin") / program
        command = [str(path) if path.exists() else program, *self._socket, *options]
        try:
            return subprocess.run(
                command, input=text, capture_output=True, timeout=self._timeout_s, check=False
            )
        except FileNotFoundError as error:
            raise UnreachableError(f"The program {program} is missing.", hint="Install munge.") from error
        except subprocess.TimeoutExpired as error:
            raise UnreachableError(
                f"{program} did not answer within {self._timeout_s:g} s.", hint="Is munged in good health?"
            ) from error


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _first_line(text: bytes) -> str:
    return text.decode(errors="replace").strip().split("\n", 1)[0].rstrip(".")
