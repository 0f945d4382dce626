"""`qslurm doctor` on C2: is all there that a job meets on its way?"""

from __future__ import annotations

import os
import pwd
import re
import stat
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from qslurm.c2.config import C2Config, partition_of
from qslurm.c2.slurm import Slurm
from qslurm.doctor.finding import Check, Finding, fail, ok, warn
from qslurm.doctor.node import node_checks
from qslurm.errors import TokenError, UnreachableError

PATIENCE_S = 3.0
SPARE_S = 10.0
"""How much longer than the hook's own limit Slurm must wait for it."""

_README = "See deploy/README.md."


def c2_checks(config: C2Config) -> dict[str, Check]:
    """What there is to look at, in the order of a job's way."""
    head: dict[str, Check] = {
        "munge": partial(_munge, config),
        "dispatcher": partial(_dispatcher, config),
        "store": partial(_store, config),
        "slurm": partial(_slurm, config),
        "gate": partial(_gate, config),
        "job manager": partial(_job_manager, config),
        "sessions": partial(_sessions, config),
        "metrics": partial(_metrics, config),
        "logs": partial(_logs, config),
        "keys": partial(_keys, config),
        "renewals": partial(_renewals, config),
    }
    return head | node_checks(config)


def _munge(config: C2Config) -> Iterator[Finding]:
    from qslurm.dispatcher.credentials import Munge

    munge = Munge(config.dispatcher.munge_socket, timeout_s=PATIENCE_S)
    munge.verify(munge.sign(b"doctor"), b"doctor")
    yield ok("munge", "gives credentials and takes them")


def _dispatcher(config: C2Config) -> Iterator[Finding]:
    from qslurm.dispatcher.client import DispatcherClient
    from qslurm.dispatcher.messages import GetStatus, Status

    with DispatcherClient(config.dispatcher.socket, timeout_s=PATIENCE_S) as client:
        status = client.ask(GetStatus())
    assert isinstance(status, Status)
    if not status.ready:
        yield fail(
            "dispatcher",
            f"is not ready: {status.reason}",
            "Its log says more: journalctl -u qslurm-dispatcher.",
        )
    else:
        yield ok("dispatcher", f"answers, version {status.version}")
    for backend in status.backends:
        name = f"backend {backend.name}"
        if backend.state == "offline":
            yield warn(
                name,
                f"is offline: {backend.reason}",
                f"qslurm backend online {backend.name}, if it should be.",
            )
        else:
            yield ok(name, backend.state)


def _store(config: C2Config) -> Iterator[Finding]:
    path = Path(config.dispatcher.store)
    facts = path.stat()
    if facts.st_mode & stat.S_IWOTH:
        yield fail("store", f"{path} can be changed by everybody", f"chmod o-w {path}")
    room = os.statvfs(path)
    free = room.f_bavail / max(1, room.f_blocks)
    if free < 0.05:
        yield warn(
            "store", f"the disk of {path} is {1 - free:.0%} full", "Make room: a full disk holds all jobs."
        )
    else:
        yield ok("store", f"{path}, {facts.st_size / 1e6:.1f} MB")


def _slurm(config: C2Config) -> Iterator[Finding]:
    slurm = Slurm(config.slurm, timeout_s=PATIENCE_S)
    settings = slurm.settings()
    for key in ("PrologSlurmctld", "EpilogSlurmctld", "TaskProlog", "TaskEpilog"):
        yield _hook(key, settings.get(key, ""))
    limit = _leading_number(settings.get("PrologEpilogTimeout", ""))
    needed = config.gate.admit_timeout_s + SPARE_S
    if limit is not None and limit < needed:
        yield fail("slurm.conf", f"PrologEpilogTimeout is {limit:g} s", f"Set it to {needed:g} or more.")
    if "lua" not in settings.get("JobSubmitPlugins", ""):
        yield fail("slurm.conf", "JobSubmitPlugins has no lua", f"Install job_submit.lua. {_README}")
    states = slurm.partitions()
    for backend in config.backend:
        name = partition_of(backend.name)
        if name in states:
            yield ok(f"partition {name}", states[name])
        else:
            yield fail(f"partition {name}", "is not in slurm.conf", f"Add it there. {_README}")


def _hook(key: str, path: str) -> Finding:
    if path in {"", "(null)"}:
        return fail(
            key, "is not set: jobs start without the dispatcher's word", f"Set it in slurm.conf. {_README}"
        )
    if not Path(path).is_file() or not os.access(path, os.X_OK):
        return fail(
            key,
            f"{path} is not there, or not executable: Slurm goes on without it",
            f"Install it, mode 0755. {_README}",
        )
    return ok(key, path)


def _gate(config: C2Config) -> Iterator[Finding]:
    from qslurm.c2.partitions import partition_status

    folder = Path(config.gate.state)
    if folder.stat().st_mode & stat.S_IWOTH:
        yield fail("gate", f"{folder} can be written by everybody", f"chmod o-w {folder}")
    rows = partition_status(config)
    for row in rows:
        if not row.wish:
            yield warn(
                "gate",
                f"nobody has said what {row.partition} shall do, so it is held",
                f"qslurm partition enable {row.partition}",
            )
    late = [
        row
        for row in rows
        if row.wish == "enabled"
        and row.backend_state not in {"offline", "silent"}
        and row.slurm_state == "DOWN"
    ]
    if late:
        yield fail(
            "gate",
            f"{late[0].partition} is enabled and its backend is there, but Slurm holds it",
            "Is the gate running? systemctl status qslurm-gate",
        )
    else:
        yield ok("gate", "partitions are as they should be")


def _job_manager(config: C2Config) -> Iterator[Finding]:
    yield _answer("job manager", config.jobmanager.listen, "/healthz")


def _sessions(config: C2Config) -> Iterator[Finding]:
    from qslurm.dispatcher.entrance.certificate import read_certificate
    from qslurm.sessions.door import Door

    sessions = config.sessions
    if not sessions.listen:
        yield ok("sessions", "are not held for loops at centers, as configured")
        return
    address = sessions.address or sessions.listen
    Door(address, read_certificate(Path(sessions.key))).connect().close()
    yield ok("sessions", f"clients may come to {address}")


def _metrics(config: C2Config) -> Iterator[Finding]:
    if config.metrics.listen:
        yield _answer("metrics", config.metrics.listen, "/metrics")
    else:
        yield ok("metrics", "are not answered, as configured")


def _answer(name: str, listen: str, path: str) -> Finding:
    import http.client

    host, _, port = listen.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return fail(name, f"does not answer at {listen}: {error}", "systemctl status qslurm-jobmanager")
    finally:
        connection.close()
    if status != 200:
        return fail(name, f"says {status}", "journalctl -u qslurm-jobmanager")
    return ok(name, f"answers at {listen}")


def _logs(config: C2Config) -> Iterator[Finding]:
    folder = Path(config.jobmanager.logs)
    users = sorted(path for path in folder.iterdir() if path.is_dir())
    if not users:
        yield fail(
            "logs",
            f"{folder} has no folder for any center's user",
            f"Make <user>:qslurm, mode 2770. {_README}",
        )
    for path in users:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o007:
            yield fail("logs", f"{path} is open to other centers (mode {mode:o})", f"chmod 2770 {path}")
        elif not mode & stat.S_ISGID:
            yield fail("logs", f"the job manager can't read what is written to {path}", f"chmod g+s {path}")
        else:
            yield ok("logs", str(path))


def _keys(config: C2Config) -> Iterator[Finding]:
    folder, public = Path(config.tokens.keys), Path(config.tokens.jwks)
    facts = folder.stat()
    owner = pwd.getpwuid(facts.st_uid).pw_name
    others = sorted(key.name for key in folder.glob("*.pem") if key.stat().st_uid != facts.st_uid)
    if facts.st_mode & 0o077 or owner in config.tokens.clients:
        whose = "the renewal service's user, or root"
        yield fail("keys", f"{folder} is not its owner's alone", f"Give it to {whose}; chmod 700 {folder}")
    elif others:
        yield fail(
            "keys", f"{others[0]} is not {owner}'s, as its folder is", "qslurm token key --center NAME"
        )
    else:
        yield ok("keys", f"{folder} is {owner}'s alone")
    if not public.is_file():
        yield fail(
            "keys",
            f"{public} is missing: slurmctld does not start without it",
            "qslurm token key --center NAME",
        )
    if Path(sys.prefix).stat().st_uid != 0 or Path(sys.prefix).stat().st_mode & 0o022:
        yield warn(
            "keys",
            f"{sys.prefix} can be changed by others than root, and root runs it",
            f"chown -R root {sys.prefix}",
        )


def _renewals(config: C2Config) -> Iterator[Finding]:
    from qslurm.tokens.door import ask
    from qslurm.tokens.secret import Secret

    if not config.tokens.socket:
        do = "Set socket in [tokens], and start qslurm-tokens."
        yield warn("renewals", "tokens are not renewed: somebody has to bring each center a new one", do)
        return
    try:
        ask(config.tokens.socket, Secret("not.a.token"), only_look=True, patience_s=PATIENCE_S)
    except TokenError:  # as it should say to this
        yield ok("renewals", f"the service answers at {config.tokens.socket}")
    except UnreachableError:
        do = "systemctl status qslurm-tokens"
        yield fail("renewals", f"the service does not answer at {config.tokens.socket}", do)


def _leading_number(text: str) -> float | None:
    found = re.match(r"\d+", text)
    return float(found.group()) if found else None
