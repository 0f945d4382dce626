"""The user of a request."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from qslurm.errors import PermissionDeniedError


@dataclass(frozen=True)
class User:
    """The user of a request. Admins (root and the agent's own user) may access all jobs."""

    name: str
    uid: int
    admin: bool


def user_of(uid: int) -> User:
    """The user with this uid; PermissionDeniedError if unknown on this host."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError as error:
        raise PermissionDeniedError(
            f"Unknown uid {uid} on this host.", hint="Tell the center's admins."
        ) from error
    return User(name, uid, admin=uid in (0, os.getuid()))
