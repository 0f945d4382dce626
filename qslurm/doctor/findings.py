"""Findings of doctor's checks: state, description and fix."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal

import msgspec

from qslurm.errors import QslurmError


def patience(load: float, cpus: int) -> float:
    """Time-out of one check in seconds: 2, or up to 10 on an overloaded host.

    `load` is the number of runnable processes (getloadavg(3)); a daemon that waits for a CPU is slow, not dead.
    """
    return 2.0 * min(5.0, max(1.0, load / (8 * cpus)))


PATIENCE_S = patience(os.getloadavg()[0], len(os.sched_getaffinity(0)))
"""Time-out of one request in seconds; a frozen process accepts connections but never answers."""

LIMIT_S = PATIENCE_S + 0.4
"""Time-out of all checks together, which run in parallel."""

State = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`name` is the check, `what` the result, `do` the fix."""

    name: str
    state: State
    what: str
    do: str = ""


Check = Callable[[], Iterable[Finding]]


def ok(name: str, what: str) -> Finding:
    """A passed check."""
    return Finding(name=name, state="ok", what=what)


def warn(name: str, what: str, do: str) -> Finding:
    """A warning: it works, but degraded or only for now."""
    return Finding(name=name, state="warn", what=what, do=do)


def fail(name: str, what: str, do: str) -> Finding:
    """A failure: jobs fail or stay pending because of it."""
    return Finding(name=name, state="fail", what=what, do=do)


def run(
    checks: Mapping[str, Check],
    needs: Mapping[str, Collection[str]] | None = None,
    *,
    limit_s: float | None = None,
) -> list[Finding]:
    """Run all checks in parallel; one that raises or times out is a failure.

    `needs` has the checks that each check depends on: while one of those fails, its own failure is a consequence, and
    is reported as a warning. Findings come in the order of `checks`. `limit_s` is the time-out of all together.
    """
    running = {name: _CheckThread(check) for name, check in checks.items()}
    for thread in running.values():
        thread.start()
    until = None if limit_s is None else time.monotonic() + limit_s
    found = {name: thread.findings(name, until) for name, thread in running.items()}
    failed = {name for name, findings in found.items() if any(one.state == "fail" for one in findings)}
    result = []
    for name, findings in found.items():
        causes = [cause for cause in (needs or {}).get(name, ()) if cause in failed]
        if name in failed and causes:
            result.append(warn(name, f"not checked: fix {', '.join(causes)} first", ""))
        else:
            result += findings
    return result


class _CheckThread(threading.Thread):
    """A running check; if it hangs, it is abandoned."""

    def __init__(self, check: Check) -> None:
        super().__init__(daemon=True)
        self._check = check
        self._found: list[Finding] = []
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._found.extend(self._check())
        except Exception as error:  # noqa: BLE001 - reported by findings, or raised there if it is a bug
            self._error = error

    def findings(self, name: str, until: float | None) -> list[Finding]:
        """The findings so far at a deadline (monotonic seconds; None: wait for the end)."""
        self.join(None if until is None else max(0.0, until - time.monotonic()))
        found = list(self._found)
        if self.is_alive():
            return [
                *found,
                fail(name, "the check timed out", "Check its disk and its host."),
            ]
        match self._error:
            case None:
                return found
            case QslurmError() as error:
                return [*found, fail(name, error.message, error.hint)]
            case PermissionError() as error:
                return [
                    *found,
                    warn(name, f"this user cannot read {error.filename}", "Run it as root."),
                ]
            case OSError() as error:
                return [*found, fail(name, f"{error}", "")]
            case error:
                raise error
