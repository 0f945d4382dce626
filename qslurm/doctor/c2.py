"""`qslurm doctor` on C2: checks everything that a job needs."""

from __future__ import annotations

import os
import pwd
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from qslurm.c2.config.file import C2Config
from qslurm.doctor import daemons, disks
from qslurm.doctor.daemons import slurm_of
from qslurm.doctor.findings import PATIENCE_S, Check, Finding, fail, ok, warn
from qslurm.doctor.node import node_checks

SPARE_S = 10.0
"""Seconds by which Slurm's time-out for the hook must exceed the hook's own."""

_README = "See deploy/README.md."


def c2_checks(config: C2Config) -> dict[str, Check]:
    """The checks, in the order of a job's path; NEEDS has those that depend on others."""
    checks: dict[str, Callable[[C2Config], Iterable[Finding]]] = {
        "host": _host,
        "disk": disks.disks,
        "munge": daemons.munge,
        "store": disks.store,
        "dispatcher": daemons.dispatcher,
        "mariadb": daemons.mariadb,
        "slurmdbd": daemons.slurmdbd,
        "slurmctld": daemons.slurmctld,
        "slurmd": daemons.slurmd,
        "slurmrestd": daemons.slurmrestd,
        "proxy": daemons.proxy,
        "gate": _gate,
        "slurm.conf": _settings,
        "partitions": _partitions,
        "job manager": daemons.job_manager,
        "sessions": _sessions,
        "metrics": daemons.metrics,
        "logs": _logs,
        "keys": _keys,
        "renewals": daemons.renewals,
    }
    return {name: partial(check, config) for name, check in checks.items()} | node_checks(config)


NEEDS: Mapping[str, tuple[str, ...]] = {
    "slurmdbd": ("munge", "mariadb"),
    "slurmctld": ("munge",),
    "slurmd": ("munge", "slurmctld"),
    "gate": ("munge", "disk", "dispatcher", "slurmctld"),
    "slurm.conf": ("munge", "slurmctld"),
    "partitions": ("munge", "disk", "dispatcher", "slurmctld", "gate"),
    "sessions": ("dispatcher",),
    "metrics": ("munge", "dispatcher", "job manager", "runtimes"),
}
"""Checks that others depend on; dependants are not reported while these fail."""


def _host(_: C2Config) -> Iterator[Finding]:
    load, cpus = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > 8 * cpus:
        what = f"is overloaded (load {load:.0f} on {cpus} CPUs): services and hooks are slow"
        yield warn("host", what, "Reduce its load; see `top`.")


def _settings(config: C2Config) -> Iterator[Finding]:
    settings = slurm_of(config).settings()
    for key in ("PrologSlurmctld", "EpilogSlurmctld", "TaskProlog", "TaskEpilog"):
        yield _hook(key, settings.get(key, ""))
    limit = _leading_number(settings.get("PrologEpilogTimeout", ""))
    needed = config.gate.admit_timeout_s + SPARE_S
    if limit is not None and limit < needed:
        yield fail("slurm.conf", f"PrologEpilogTimeout is {limit:g} s", f"Set it to {needed:g} or more.")
    if "lua" not in settings.get("JobSubmitPlugins", ""):
        yield fail("slurm.conf", "JobSubmitPlugins does not list lua", f"Install job_submit.lua. {_README}")


def _hook(key: str, path: str) -> Finding:
    if path in {"", "(null)"}:
        return fail(
            key,
            "is not set: jobs start without the dispatcher's admission",
            f"Set it in slurm.conf. {_README}",
        )
    if not Path(path).is_file() or not os.access(path, os.X_OK):
        return fail(
            key,
            f"{path} is missing or not executable: Slurm skips it",
            f"Install it, mode 0755. {_README}",
        )
    return ok(key, path)


def _gate(config: C2Config) -> Iterator[Finding]:
    folder = Path(config.gate.state)
    if folder.stat().st_mode & stat.S_IWOTH:
        yield fail("gate", f"{folder} is world-writable", f"chmod o-w {folder}")
    yield from daemons.gate(config)


def _partitions(config: C2Config) -> Iterator[Finding]:
    from qslurm.c2.gate.partitions import partition_status

    for row in partition_status(config, timeout_s=PATIENCE_S):
        name = f"partition {row.partition}"
        if row.slurm_state == "missing":
            yield fail(name, "is not in slurm.conf", f"Add it there. {_README}")
        elif not row.wish:
            do = f"qslurm partition enable {row.partition}"
            yield warn(name, "has no desired state, so it is held", do)
        elif row.slurm_state != row.wanted_state:
            do = "journalctl -u qslurm-gate"
            yield fail(name, f"is {row.slurm_state}, and should be {row.wanted_state}", do)
        else:
            yield ok(name, f"{row.slurm_state}, as it should be")


def _sessions(config: C2Config) -> Iterator[Finding]:
    from qslurm.c1.sessions.connect import SessionServerAddress
    from qslurm.protocol.tls_certificate import read_certificate

    sessions = config.sessions
    if not sessions.listen:
        yield ok("sessions", "are disabled in the configuration")
        return
    address = sessions.address or sessions.listen
    SessionServerAddress(address, read_certificate(Path(sessions.key))).connect().close()
    yield ok("sessions", f"listening at {address} for centers' clients")


def _logs(config: C2Config) -> Iterator[Finding]:
    folder = Path(config.jobmanager.logs)
    users = sorted(path for path in folder.iterdir() if path.is_dir())
    if not users:
        yield fail(
            "logs",
            f"{folder} has no directory for any center's user",
            f"Create one for each: owner <user>:qslurm, mode 2770. {_README}",
        )
    for path in users:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o007:
            yield fail("logs", f"{path} is accessible to other centers (mode {mode:o})", f"chmod 2770 {path}")
        elif not mode & stat.S_ISGID:
            yield fail("logs", f"the job manager cannot read files written to {path}", f"chmod g+s {path}")
        else:
            yield ok("logs", str(path))


def _keys(config: C2Config) -> Iterator[Finding]:
    folder, public = Path(config.tokens.keys), Path(config.tokens.jwks)
    facts = folder.stat()
    owner = pwd.getpwuid(facts.st_uid).pw_name
    others = sorted(key.name for key in folder.glob("*.pem") if key.stat().st_uid != facts.st_uid)
    if facts.st_mode & 0o077 or owner in config.tokens.clients:
        whose = "the renewal service's user, or root"
        yield fail(
            "keys", f"{folder} is accessible to other users", f"Set its owner to {whose}; chmod 700 {folder}"
        )
    elif others:
        yield fail(
            "keys",
            f"{others[0]} does not belong to {owner}, as its directory does",
            "qslurm token key --center NAME",
        )
    else:
        yield ok("keys", f"{folder} is accessible only to {owner}")
    if not public.is_file():
        yield fail(
            "keys",
            f"{public} is missing: slurmctld does not start without it",
            "qslurm token key --center NAME",
        )
    if Path(sys.prefix).stat().st_uid != 0 or Path(sys.prefix).stat().st_mode & 0o022:
        yield warn(
            "keys",
            f"{sys.prefix} is writable by users other than root, and root runs programs from it",
            f"chown -R root {sys.prefix}",
        )


def _leading_number(text: str) -> float | None:
    found = re.match(r"\d+", text)
    return float(found.group()) if found else None
