"""What a look at an installation finds: a line for each thing, whether it is well, and what to do if not."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal

import msgspec

from qslurm.errors import QslurmError


def patience(load: float, cpus: int) -> float:
    """Seconds in which what is well answers: 2, and up to 10 where a host has more to do than it can.

    `load` is how many processes want a CPU (getloadavg(3)): who waits for one is slow, and not dead.
    """
    return 2.0 * min(5.0, max(1.0, load / (8 * cpus)))


PATIENCE_S = patience(os.getloadavg()[0], len(os.sched_getaffinity(0)))
"""What is well answers in milliseconds; what is frozen takes connections all the same, and says nothing."""

LIMIT_S = PATIENCE_S + 0.4
"""How long all of it may take, side by side."""

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


def run(
    checks: Mapping[str, Check],
    needs: Mapping[str, Collection[str]] | None = None,
    *,
    limit_s: float | None = None,
) -> list[Finding]:
    """What all checks find, side by side; one that raises has found a failure, and so has one that takes too long.

    `needs` says what each check needs to be well: what it finds wrong while one of those fails is a consequence, of
    which nobody is to be blamed. Findings come in the order of `checks`. Without `limit_s` each takes its own time.
    """
    looks = {name: _Look(check) for name, check in checks.items()}
    for look in looks.values():
        look.start()
    until = None if limit_s is None else time.monotonic() + limit_s
    found = {name: look.findings(name, until) for name, look in looks.items()}
    failed = {name for name, findings in found.items() if any(one.state == "fail" for one in findings)}
    result = []
    for name, findings in found.items():
        causes = [cause for cause in (needs or {}).get(name, ()) if cause in failed]
        if name in failed and causes:
            result.append(warn(name, f"can't be judged: look after {', '.join(causes)} first", ""))
        else:
            result += findings
    return result


class _Look(threading.Thread):
    """One check under way; where it hangs it is left behind."""

    def __init__(self, check: Check) -> None:
        super().__init__(daemon=True)
        self._check = check
        self._found: list[Finding] = []
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._found.extend(self._check())
        except Exception as error:  # noqa: BLE001 - it is told by who waits, and raised again if it is a bug
            self._error = error

    def findings(self, name: str, until: float | None) -> list[Finding]:
        """What was found by a time (monotonic seconds; None: whenever it is over)."""
        self.join(None if until is None else max(0.0, until - time.monotonic()))
        found = list(self._found)
        if self.is_alive():
            return [
                *found,
                fail(name, "hangs: it can't be looked at in time", "Is its disk, or its host, alive?"),
            ]
        match self._error:
            case None:
                return found
            case QslurmError() as error:
                return [*found, fail(name, error.message, error.hint)]
            case PermissionError() as error:
                return [
                    *found,
                    warn(name, f"{error.filename} can't be looked at by this user", "Run it as root."),
                ]
            case OSError() as error:
                return [*found, fail(name, f"{error}", "")]
            case error:
                raise error
