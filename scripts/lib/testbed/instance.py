"""A testbed: starts, stops and uses both clusters."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from testbed import (
    base,
    daemon,
    files,
    leftovers,
    ports,
    releases,
    saved_state,
    slurm,
    task_graph,
    tokens,
    users,
)
from testbed.command import PATH, Done, run
from testbed.daemons import all_daemons, dependants
from testbed.errors import TestbedError
from testbed.layout import CHECKOUT, Layout
from testbed.process import Process, await_reaped

LOCK_S = 300.0
JOBS_END_S = 5.0
REAPED_S = 3.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class DaemonStatus:
    """A daemon: `state` is running, dead (ended by itself) or stopped; up for `seconds`."""

    name: str
    state: str
    pid: int | None
    seconds: float | None
    log: str


class Testbed:
    """A named instance; several may be up at once, in this checkout and in others.

    All files are written below `state` (default: the checkout's .state); the project must be installed in <state>/venv.
    `slurm` is the release that C2 runs, or the folder of an installed Slurm (default: the last one, at first the
    host's); C1 always runs the host's.
    """

    __test__ = False  # not a test class, whatever its name

    def __init__(
        self,
        name: str = "default",
        *,
        state: Path | None = None,
        say: Say | None = None,
        slurm: str | None = None,
    ) -> None:
        layout = Layout.of(state or CHECKOUT / ".state", name)
        release = slurm or saved_state.load(layout).slurm
        self.layout = replace(layout, slurm=releases.check(release))
        self._say = say or _nobody
        self._telling = threading.Lock()

    @property
    def name(self) -> str:
        return self.layout.name

    @property
    def folder(self) -> Path:
        """The instance's folder, reachable by every user while it is up."""
        return self.layout.folder

    @property
    def ports(self) -> Mapping[str, int]:
        """Ports by name (`c2_slurmrestd`, `jobmanager` …); empty before the first `up`."""
        return saved_state.load(self.layout).ports

    @property
    def rest_url(self) -> str:
        """URL of C2's slurmrestd."""
        return f"http://{files.LOOPBACK}:{self._known_ports()['c2_slurmrestd']}"

    @property
    def results_url(self) -> str:
        """URL of C2's job manager."""
        return f"http://{files.LOOPBACK}:{self._known_ports()['jobmanager']}"

    @property
    def metrics_url(self) -> str:
        """URL of C2's metrics."""
        return f"http://{files.LOOPBACK}:{self._known_ports()['metrics']}/metrics"

    def _known_ports(self) -> Mapping[str, int]:
        if not (known := self.ports):
            raise TestbedError(f"Testbed {self.name!r} was never started. Run `scripts/testbed up`.")
        return known

    # --- up and down ---------------------------------------------------------------------------------

    def up(
        self, only: Sequence[str] | None = None, *, on_start: Callable[[daemon.Daemon], None] | None = None
    ) -> None:
        """Start the daemons that are not running, and wait until jobs can be submitted.

        With `only`, start these daemons and those that they need. `on_start` is called with each daemon that was
        started, once it is ready; from several threads, one at a time.
        """
        _need_root()
        users.ensure()
        self.layout.home.mkdir(parents=True, exist_ok=True)
        with self._locked():
            base.bind(self.layout.state, self.layout.base)
            self.layout.make_folders()
            releases.ensure(self.layout, self._say)
            self._change_release()
            with self._reserved_ports():
                wanted = self._wanted(self._configured(), only)
                tell = on_start or _nobody
                task_graph.run(
                    {name: one.after for name, one in wanted.items()},
                    lambda name: self._start(wanted[name], tell),
                )

    def _change_release(self) -> None:
        """Stop all of C2 if it runs another Slurm than the requested one."""
        saved = saved_state.load(self.layout)
        if saved.slurm == self.layout.slurm:
            return
        if saved.ports:
            before = Testbed(self.name, state=self.layout.state, say=self._say, slurm=saved.slurm)
            before._stop_all(("c2",))
        saved_state.save(self.layout, replace(saved, slurm=self.layout.slurm))

    def _configured(self) -> dict[str, daemon.Daemon]:
        """Write the configuration of daemons and users; the daemons."""
        saved = saved_state.load(self.layout)
        variables = files.values(self.layout, saved)
        files.write_all(self.layout, saved, variables)
        tokens.ensure(self.layout)
        return all_daemons(self.layout, saved, variables)

    def _daemons(self) -> dict[str, daemon.Daemon]:
        saved = saved_state.load(self.layout)
        self._known_ports()
        return all_daemons(self.layout, saved, files.values(self.layout, saved))

    @staticmethod
    def _wanted(
        all_of_them: dict[str, daemon.Daemon], only: Sequence[str] | None
    ) -> dict[str, daemon.Daemon]:
        if only is None:
            return all_of_them
        names: set[str] = set()
        open_names = list(only)
        while open_names:
            name = open_names.pop()
            if name not in names:
                names.add(name)
                open_names += _known(all_of_them, name).after
        return {name: one for name, one in all_of_them.items() if name in names}

    def _start(self, one: daemon.Daemon, tell: Callable[[daemon.Daemon], None]) -> None:
        seconds = daemon.start(self.layout, one)
        with self._telling:
            self._say(f"{one.name} {'was up' if seconds is None else f'up after {seconds:.1f} s'}")
            if seconds is not None:
                tell(one)

    def is_up(self) -> bool:
        """Whether all daemons run, and the nodes of both clusters take jobs."""
        alive = bool(self.ports) and all(one.state == "running" for one in self.status())
        return alive and all(slurm.node_state(self.layout, cluster) in slurm.IDLE for cluster in ("c1", "c2"))

    @contextmanager
    def _reserved_ports(self) -> Iterator[None]:
        """Reserve ports: those of running daemons, else the last ones if they are free, else new ones."""
        saved = saved_state.load(self.layout)
        if saved.ports and any(one.state == "running" for one in self.status()):
            yield
            return
        with ports.reserved(dict(saved.ports)) as block:
            saved_state.save(self.layout, replace(saved, ports=block))
            yield

    def down(self) -> None:
        """End running jobs and stop everything; no process and no mount remains."""
        _need_root()
        if not self.layout.home.is_dir():
            return
        with self._locked():
            ended = [one.pid for one in self.status() if one.pid]
            if self.ports:
                self._stop_all()
            count = leftovers.end_all(self.layout)
            if count:
                self._say(f"ended {count} leftover processes")
            for path in self.layout.records.glob("*.json"):
                path.unlink()
            base.release(self.layout.state, self.layout.base)
        await_reaped(ended, REAPED_S)
        if left := leftovers.find(self.layout):
            raise TestbedError(
                f"These processes of the testbed do not end: {', '.join(str(one.pid) for one in left)}."
            )

    def _stop_all(self, clusters: Sequence[str] = ("c1", "c2")) -> None:
        daemons = {name: one for name, one in self._daemons().items() if one.cluster.lower() in clusters}
        serving = [one for one in clusters if self.pid(f"slurmctld-{one}")]
        task_graph.run(
            dict.fromkeys(serving, ()), lambda one: slurm.end_jobs(self.layout, one, timeout_s=JOBS_END_S)
        )
        task_graph.run(dependants(daemons), self._stop)

    def _stop(self, name: str) -> None:
        if daemon.record(self.layout, name) is None:
            return
        began = time.monotonic()
        gently = daemon.stop(self.layout, name)
        how = "stopped" if gently else "did not stop, killed"
        self._say(f"{name} {how} after {time.monotonic() - began:.1f} s")

    # --- one daemon ----------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """SIGKILL a daemon, as a crash would; `up` or `start` starts it again."""
        _need_root()
        _known(self._daemons(), name)
        daemon.kill(self.layout, name)

    def stop(self, name: str) -> None:
        """Stop a daemon with SIGTERM."""
        _need_root()
        _known(self._daemons(), name)
        with self._locked():
            self._stop(name)

    def start(self, name: str) -> None:
        """Start a daemon, and wait until it is ready; no other is started."""
        _need_root()
        with self._locked():
            self._start(_known(self._daemons(), name), _nobody)

    def restart(self, name: str) -> None:
        """Stop and start a daemon."""
        self.stop(name)
        self.start(name)

    def pid(self, name: str) -> int | None:
        """The pid of a running daemon, or None."""
        child: Process | None = daemon.running(self.layout, name)
        return child.pid if child else None

    def log(self, name: str) -> Path:
        """The file with a daemon's output."""
        return daemon.log_of(self.layout, name)

    def status(self) -> list[DaemonStatus]:
        """All daemons; empty before the first `up`."""
        if not self.ports:
            return []
        return [self._status_of(name) for name in self._daemons()]

    def _status_of(self, name: str) -> DaemonStatus:
        known = daemon.record(self.layout, name)
        log = str(self.log(name))
        if known is None:
            return DaemonStatus(name, "stopped", None, None, log)
        if not known.process.alive:
            return DaemonStatus(name, "dead", None, None, log)
        return DaemonStatus(name, "running", known.pid, time.time() - known.since, log)

    # --- using it ------------------------------------------------------------------------------------

    def work_folder(self, user: str = "qs_alice") -> Path:
        """The home folder of a researcher on C1, for scripts and output of jobs."""
        return self.layout.researcher_home(user)

    def env_c1(self, user: str = "qs_alice") -> dict[str, str]:
        """The environment of a researcher (or of root, the center's admin) on C1."""
        home = Path("/root") if user == "root" else self.layout.researcher_home(user)
        return self._environment(user, home) | {
            "SLURM_CONF": str(self.layout.c1_conf),
            "QSLURM_CONFIG": str(self.layout.c1_qslurm),
        }

    def env_c2(self, user: str = "root") -> dict[str, str]:
        """The environment of an operator on C2."""
        home = self.layout.work / user if user in users.CENTER_USERS else Path("/root")
        own = (self.layout.slurm_programs,) if self.layout.has_own_slurm("c2") else ()
        return self._environment(user, home, *own) | {
            "SLURM_CONF": str(self.layout.c2_conf),
            "QSLURM_C2_CONFIG": str(self.layout.c2_qslurm),
        }

    def _environment(self, user: str, home: Path, *programs: Path) -> dict[str, str]:
        return {
            "PATH": ":".join(map(str, (self.layout.programs, *programs, PATH))),
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "USER": user,
            "LOGNAME": user,
        }

    def c1(
        self,
        command: Sequence[str | Path],
        *,
        user: str = "qs_alice",
        stdin: str = "",
        timeout_s: float = 60,
        **environment: str,
    ) -> Done:
        """Run a command on C1 in the user's home; returns its output, whatever its exit code."""
        env = self.env_c1(user) | environment
        return run(
            command, environment=env, user=user, folder=Path(env["HOME"]), stdin=stdin, timeout_s=timeout_s
        )

    def c2(
        self,
        command: Sequence[str | Path],
        *,
        user: str = "root",
        stdin: str = "",
        timeout_s: float = 60,
        **environment: str,
    ) -> Done:
        """Run a command on C2; returns its output, whatever its exit code."""
        env = self.env_c2(user) | environment
        return run(command, environment=env, user=user, stdin=stdin, timeout_s=timeout_s)

    def token(self, center: str = files.CENTER, lifetime: str = tokens.LIFETIME) -> str:
        """A new token of a center."""
        return tokens.issue(self.layout, center, lifetime).strip()

    # --- inside --------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the instance's lock; the kernel releases it with the process."""
        with self.layout.lock.open("w") as file:
            deadline = time.monotonic() + LOCK_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise TestbedError(
                            f"Timed out waiting for another command on testbed {self.name!r}."
                        ) from error
                    time.sleep(0.05)
            yield

    def __enter__(self) -> Testbed:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()


def _nobody(_: object) -> None:
    """Ignore progress."""


def _known(daemons: Mapping[str, daemon.Daemon], name: str) -> daemon.Daemon:
    if name not in daemons:
        raise TestbedError(f"Unknown daemon {name!r}. Available: {', '.join(daemons)}.")
    return daemons[name]


def _need_root() -> None:
    if os.geteuid() != 0:
        raise TestbedError("Permission denied: daemons run as several users. Run this as root or with sudo.")
