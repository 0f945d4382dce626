"""A dispatcher that holds sessions for clients who come by the network; what they ask for waits to be let go."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qslurm.c1.queries.job_state import result_error
from qslurm.c1.sessions.connect import Connect, SessionEndedError, SessionServerAddress
from qslurm.c1.sessions.reconnecting_connection import ReconnectingConnection
from qslurm.c1.sessions.session_client import SessionClient
from qslurm.c2.config.dispatcher_section import BackendConfig, SessionsConfig
from qslurm.errors import QslurmError
from qslurm.payload.envelope import Envelope
from qslurm.protocol.messages import Admit, Admitted, Attached, Finish
from qslurm.protocol.tls_certificate import read_certificate
from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
from tests.unit.c2.dispatcher.running import Running
from tests.unit.runtimes.quantum.remote.forwarder import Forwarder
from tests.unit.waiting import until

NUMBERS = count(1)


class Held:
    """A session job on C2: admitted, and its step holds it, in a thread, until it ends."""

    def __init__(self, place: Place, idle_limit_s: float, digest: str = "") -> None:
        self.place = place
        self.secret = secrets.token_bytes(32)
        self.job_id = next(NUMBERS)
        self.restart = -1
        digest = digest or hashlib.sha256(self.secret).hexdigest()
        self._envelope = Envelope(kind="session", source="", session=digest, idle_limit_s=idle_limit_s)
        self.start()

    def start(self) -> None:
        """Slurm starts the job, for the first time or once more."""
        self.restart += 1
        self.ended: Attached | None = None
        job = Admit(job_id=self.job_id, restart=self.restart, user="center_a", uid=os.getuid(), account="a", center="a",
                    backend="qx", kind="session", key=f"session-{self.job_id}", envelope=self._envelope)  # fmt: skip
        assert self.place.dispatcher.ask(job) == Admitted()
        self._attached = threading.Event()
        self._thread = threading.Thread(target=self._hold)
        self._thread.start()
        assert self._attached.wait(60)

    def _hold(self) -> None:
        with self.place.dispatcher.client() as client:
            step = DispatcherSession(client, self.job_id, self.restart, say=lambda _: None)
            self._attached.set()
            self.ended = step.wait_for_end()

    def client(self, *, by_cable: bool = False, link_limit_s: float = 60.0) -> SessionClient:
        connect = self._connects(by_cable)
        return SessionClient(
            connect, self.secret, say=self.said.append, ended=self._why_ended, link_limit_s=link_limit_s
        )

    def link(self, *, silence_s: float) -> ReconnectingConnection:
        """What a client has below it."""
        connect = self._connects(by_cable=False)
        return ReconnectingConnection(
            connect, self.secret, say=self.said.append, ended=self._why_ended, silence_s=silence_s
        )

    def _connects(self, by_cable: bool) -> Connect:
        port = self.place.cable.port if by_cable else self.place.port
        door = SessionServerAddress(f"127.0.0.1:{port}", self.place.certificate)
        self.said: list[str] = []
        self.links = 0

        def connect() -> socket.socket:
            link = door.connect()
            self.links += 1
            return link

        return connect

    def _why_ended(self) -> QslurmError | None:
        """As `qslurm session` is told it by the center, also where a link broke just when the dispatcher told it."""
        task = self.place.dispatcher.reader().task("a", self.job_id)
        if task is None or task.finished_at is None or task.state == "withdrawn":
            return None
        facts = {"job_id": self.job_id, "state": task.state, "reason": task.reason}
        center: Any = SimpleNamespace(prefix="")
        return result_error(center, facts) or SessionEndedError("The session has ended.")

    def finish(self, state: str = "CANCELLED") -> None:
        """Slurm says that the job is over."""
        self.place.dispatcher.ask(Finish(job_id=self.job_id, restart=self.restart, state=state))

    def wait(self) -> Attached:
        """How it ended, as its step is told."""
        self._thread.join(60)
        assert self.ended is not None
        return self.ended

    def let_go(self) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(QslurmError):
                self.finish()
            self._thread.join(60)


class Place:
    """C2: a dispatcher whose door is reached directly, or by a cable that can be cut."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder
        backend = BackendConfig(
            name="qx", runtime="turnstile", qubits=2, workers=4, options={"folder": str(folder)}
        )
        sessions = SessionsConfig(listen="127.0.0.1:0", key=str(folder / "sessions.key"))
        self.dispatcher = Running(folder, backend=backend, python=python, sessions=sessions).ready()
        self.port = self._listens()
        self.certificate = read_certificate(folder / "sessions.key")
        self.cable = Forwarder(self.port)
        self.sessions: list[Held] = []

    def _listens(self) -> int:
        *_, last = self.dispatcher.log.read_text().split("killed\n")
        return int(last.partition('session clients" address=127.0.0.1:')[2].partition("\n")[0])

    def kill(self) -> None:
        """kill -9, and start another one; clients find it by the cable."""
        self.dispatcher.kill()
        with self.dispatcher.log.open("a") as log:
            log.write("killed\n")
        self.dispatcher.start()
        self.dispatcher.ready()
        self.port = self.cable.target = self._listens()

    def hold(self, *, idle_limit_s: float = 600.0, digest: str = "") -> Held:
        self.sessions.append(Held(self, idle_limit_s, digest))
        return self.sessions[-1]

    def begun(self) -> int:
        """How many circuits have been begun."""
        try:
            return len((self.folder / "begun").read_text())
        except FileNotFoundError:
            return 0

    def let_go(self) -> None:
        """Circuits end."""
        (self.folder / "go").touch()

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        for session in self.sessions:
            session.let_go()
        self.cable.__exit__()
        self.dispatcher.kill()


@pytest.fixture(scope="session")
def shared_place(python: Path) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="qs-", dir="/dev/shm"))
    with Place(folder, python) as place:
        yield place
    shutil.rmtree(folder)


@pytest.fixture
def place(shared_place: Place) -> Iterator[Place]:
    """In which nothing has been begun."""
    for name in ("go", "begun"):
        (shared_place.folder / name).unlink(missing_ok=True)
    yield shared_place
    shared_place.let_go()
    for session in shared_place.sessions:
        session.let_go()
    shared_place.sessions.clear()
    until(lambda: shared_place.dispatcher.executing() == 0)
