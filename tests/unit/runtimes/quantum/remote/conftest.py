"""A dispatcher and quantum runtimes that reach it by TCP, all real processes; what they execute waits to be let go."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from qslurm.c2.config.dispatcher_section import BackendConfig, RemoteConfig
from qslurm.errors import UnreachableError
from qslurm.protocol.curve.key_files import KeyPair, make_keys
from tests.unit.c2.dispatcher.running import ROOT, Running
from tests.unit.runtimes.quantum.remote.forwarder import Forwarder
from tests.unit.waiting import until

_JOIN = """
import sys
sys.path.insert(0, sys.argv[1])
from qslurm.cli import main
sys.argv = ["qslurm", "runtimes", "join", *sys.argv[2:]]
sys.exit(main())
"""


class Site:
    """Use it as a context manager. Runtimes reach the dispatcher through `cable`, which can be cut."""

    def __init__(
        self,
        folder: Path,
        python: Path,
        *,
        beat_s: float = 0.3,
        grace_s: float = 60.0,
        places: int = 1,
        execution_limit_s: float = 60.0,
    ) -> None:
        self.folder = folder
        self.python = python
        self.allowed = folder / "allowed" / "qx"
        self.allowed.mkdir(parents=True)
        self.public = make_keys(folder / "dispatcher.key").public
        self.agents: list[subprocess.Popen[bytes]] = []
        backend = BackendConfig(
            name="qx",
            runtime="turnstile",
            qubits=2,
            workers=0,
            remote=places,
            options={"folder": str(folder)},
        )
        self.dispatcher = Running(
            folder,
            backend=backend,
            python=python,
            execution_limit_s=execution_limit_s,
            remote=RemoteConfig(
                listen="tcp://127.0.0.1:*",
                key=str(folder / "dispatcher.key"),
                allowed=str(folder / "allowed"),
                beat_s=beat_s,
                grace_s=grace_s,
            ),
        )
        self.cable = Forwarder(self.port())

    def port(self) -> int:
        """Where the dispatcher that was started last listens."""

        def said() -> str:
            assert self.dispatcher.process.poll() is None, self.dispatcher.log.read_text()
            *_, last = self.dispatcher.log.read_text().split("process-started\n")
            return last.partition('other hosts" address=tcp://127.0.0.1:')[2].partition("\n")[0]

        return int(until(said))

    def restart(self) -> None:
        """Start a dispatcher where one was killed; runtimes find it."""
        with self.dispatcher.log.open("a") as log:
            log.write("process-started\n")
        self.dispatcher.start()
        self.cable.target = self.port()

    def key(self, name: str, *, allow: bool = True) -> KeyPair:
        pair = make_keys(self.folder / f"{name}.key")
        if allow:
            (self.allowed / f"{name}.pub").write_bytes(pair.public)
        return pair

    def tidy(self) -> Site:
        """As at the beginning: circuits wait."""
        for name in ("go", "begun"):
            (self.folder / name).unlink(missing_ok=True)
        return self

    def end_agents(self) -> None:
        for agent in self.agents:
            agent.terminate()
        for agent in self.agents:
            agent.wait(30)
        self.agents.clear()

    def revoke(self, name: str) -> None:
        (self.allowed / f"{name}.pub").unlink()

    def join(self, name: str = "lab", *, workers: int = 1) -> subprocess.Popen[bytes]:
        """Start a runtime with that key."""
        with (self.folder / f"{name}.log").open("ab") as log:
            agent = subprocess.Popen(
                [
                    str(self.python), "-c", _JOIN, str(ROOT),
                    "--connect", f"tcp://127.0.0.1:{self.cable.port}", "--backend", "qx",
                    "--key", str(self.folder / f"{name}.key"),
                    "--dispatcher-key", str(self.folder / "dispatcher.pub"), "--workers", str(workers),
                ],
                stderr=log,
            )  # fmt: skip
        self.agents.append(agent)
        return agent

    def log(self, name: str = "lab") -> str:
        return (self.folder / f"{name}.log").read_text()

    def joined(self, number: int) -> bool:
        """Whether so many runtimes are there, and ready if there are any (`False` while they are not)."""
        try:
            status = self.dispatcher.status().backends[0]
        except UnreachableError:  # it does not answer yet
            assert self.dispatcher.process.poll() is None, self.dispatcher.log.read_text()
            return False
        return status.runtimes == number and (number == 0 or status.state != "offline")

    def warnings(self, name: str = "lab") -> int:
        """How many warnings a runtime has logged, such as that it was refused."""
        log = self.folder / f"{name}.log"
        return log.read_text().count("level=warning") if log.exists() else 0

    def joined_times(self, name: str = "lab") -> int:
        """How often a runtime has been let in."""
        return self.log(name).count("event=joined")

    @contextmanager
    def store_takes_nothing(self) -> Iterator[None]:
        """Somebody else writes to the dispatcher's store, and does not end."""
        with closing(sqlite3.connect(self.dispatcher.config.store, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield

    def in_trouble(self) -> bool:
        """Whether the dispatcher that was started last can't store what it has to."""
        *_, last = self.dispatcher.log.read_text().split("process-started\n")
        return last.count("cannot write to the store;") > last.count("store is writable again")

    def begun(self) -> int:
        """How many circuits have been begun, wherever."""
        try:
            return len((self.folder / "begun").read_text())
        except FileNotFoundError:
            return 0

    def let_go(self) -> None:
        """Circuits end."""
        (self.folder / "go").touch()

    def ended(self, job_id: int) -> object:
        """The record of a circuit job that has ended."""
        reader = self.dispatcher.reader()
        return until(
            lambda: (found := reader.task("a", job_id)) and found.finished_at is not None and found, 30.0
        )

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.cable.__exit__()
        self.end_agents()
        self.dispatcher.kill()


@pytest.fixture(scope="session")
def shared(python: Path) -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="qs-", dir="/dev/shm"))
    with Site(folder, python) as place:
        place.key("lab")
        yield place
    shutil.rmtree(folder)


@pytest.fixture
def place(shared: Site) -> Site:
    """A dispatcher whose backend is served by other hosts, and one runtime that has joined."""
    if not shared.agents or shared.agents[-1].poll() is not None:
        shared.join()
    until(lambda: shared.joined(1))
    return shared.tidy()


@pytest.fixture(scope="session")
def shared_bare(python: Path) -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="qs-", dir="/dev/shm"))
    with Site(folder, python, beat_s=10.0, places=50) as place:
        yield place
    shutil.rmtree(folder)


@pytest.fixture
def bare(shared_bare: Site) -> Iterator[Site]:
    """A dispatcher that nobody has joined, with room for many."""
    until(lambda: shared_bare.joined(0))
    yield shared_bare.tidy()
    shared_bare.end_agents()


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short path that nobody else can enter."""
    folder = Path(tempfile.mkdtemp(prefix="qs-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)
