"""A dispatcher and quantum runtimes that reach it by TCP, all real processes; what they execute waits to be let go."""

from __future__ import annotations

import shutil
import site
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from qslurm.curve.keys import KeyPair, make_keys
from qslurm.dispatcher.config import BackendConfig, RemoteConfig
from tests.unit.dispatcher.running import ROOT, Running, until
from tests.unit.remote.forwarder import Forwarder

_PLUGIN = '''
import pathlib
import time
import msgspec
from qslurm.runtimes.interface import BackendType, Outcome

class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    folder: str

class Turnstile:
    """Notes each circuit that it begins in a file, and ends it when there is a file `go`."""
    Options = Options
    max_workers = 0
    def __init__(self, backend, options):
        self.backend_type = BackendType(name=backend.name, nqubits=backend.qubits,
            max_number_of_shots=backend.max_shots, default_number_of_shots=backend.default_shots)
        self.folder = pathlib.Path(options.folder)
    def open(self):
        pass
    def close(self):
        pass
    def execute(self, circuit, shots, *, seed, raw_data, file):
        with (self.folder / "begun").open("a") as begun:
            begun.write(".")
        while not (self.folder / "go").exists():
            time.sleep(0.002)
        raw = ["01"] * shots if raw_data else None
        return Outcome(counts={"01": shots}, shots_requested=shots, shots_done=shots, seconds=0.5, raw_data=raw)
'''

_JOIN = """
import sys
sys.path.insert(0, sys.argv[1])
from qslurm.cli import main
sys.argv = ["qslurm", "runtimes", "join", *sys.argv[2:]]
sys.exit(main())
"""


@pytest.fixture(scope="session")
def python() -> Iterator[Path]:
    """A Python that has all that this one has, and the plug-in `turnstile`."""
    folder = Path(tempfile.mkdtemp(prefix="qs-", dir="/dev/shm"))
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "these.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    (packages / "turnstile.py").write_text(_PLUGIN)
    about = packages / "turnstile-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: turnstile\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[qslurm.runtimes]\nturnstile = turnstile:Turnstile\n")
    yield folder / "bin" / "python"
    shutil.rmtree(folder)


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
            return last.partition('may join" address=tcp://127.0.0.1:')[2].partition("\n")[0]

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
        """Whether so many runtimes are there and ready (`False` while they are not)."""
        status = self.dispatcher.status().backends[0]
        return status.runtimes == number and (status.state != "offline") == (number > 0)

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
    until(lambda: shared_bare.dispatcher.status().backends[0].runtimes == 0)
    yield shared_bare.tidy()
    shared_bare.end_agents()


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short path that nobody else can enter."""
    folder = Path(tempfile.mkdtemp(prefix="qs-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)
