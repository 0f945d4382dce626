"""What a look at an installation finds: a line for each thing, whether it is well, and what to do if not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec

from qslurm.errors import QslurmError

State = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`name` says what was looked at, `what` how it is, `do` what to do about it."""

    name: str
    state: State
    what: str
    do: str = ""


Check = Callable[[], Iterable[Finding]]


def ok(name: str, what: str) -> Finding:
    """All is well."""
    return Finding(name=name, state="ok", what=what)


def warn(name: str, what: str, do: str) -> Finding:
    """It works, but not as well, or not for much longer."""
    return Finding(name=name, state="warn", what=what, do=do)


def fail(name: str, what: str, do: str) -> Finding:
    """Jobs fail, or wait, because of this."""
    return Finding(name=name, state="fail", what=what, do=do)


def run(checks: dict[str, Check]) -> Iterator[Finding]:
    """What each check finds; one that raises has found a failure, and the others go on."""
    for name, check in checks.items():
        try:
            yield from check()
        except QslurmError as error:
            yield fail(name, error.message, error.hint)
        except PermissionError as error:
            yield warn(name, f"{error.filename} can't be looked at by this user", "Run it as root.")
        except OSError as error:
            yield fail(name, f"{error}", "")
