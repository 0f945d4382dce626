"""A real dispatcher in a process of its own, for tests: with real quantum runtimes, known by its folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import zmq
from testbed.layout import CHECKOUT

from qslurm.c2.config.dispatcher_section import BackendConfig, DispatcherConfig, RemoteConfig, SessionsConfig
from qslurm.c2.dispatcher.main_loop import Dispatcher, DispatcherLimits
from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
from qslurm.c2.store import Reader, TaskRecord
from qslurm.errors import UnreachableError
from qslurm.payload.envelope import Envelope
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.messages import Admit, GetStatus, Message, Status
from qslurm.system.job_of_process import name_of_watcher
from qslurm.wire.credentials import Identity, Munge, SameUser
from tests.unit.waiting import until

ROOT = CHECKOUT

BELL = "version 3.0; qubit[2] q; bit[2] b; H q[0]; CNOT q[0], q[1]; b = measure q"

_SERVE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import msgspec
from qslurm.c2.config.dispatcher_section import BackendConfig, DispatcherConfig, RemoteConfig, SessionsConfig
from qslurm.wire.credentials import SameUser
from qslurm.c2.dispatcher.dispatcher_service import serve
from qslurm.errors import QslurmError
config = msgspec.json.decode(sys.argv[2], type=DispatcherConfig)
backends = msgspec.json.decode(sys.argv[3], type=list[BackendConfig])
remote = msgspec.json.decode(sys.argv[4], type=RemoteConfig)
sessions = msgspec.json.decode(sys.argv[5], type=SessionsConfig)
try:
    identity = None if config.munge_socket else SameUser()
    serve(config, backends, identity=identity, remote=remote, sessions=sessions)
except QslurmError as error:
    sys.exit(str(error))
"""


def slow_circuit(qubits: int = 20) -> str:
    """A circuit that keeps QX busy: about 3 s with 20 qubits, half of it with each qubit less."""
    return f"version 3.0; qubit[{qubits}] q; bit[{qubits}] b; H q; b = measure q"


def deadly_circuit() -> str:
    """A circuit that ends the process that gives it to libqasm as it is: its stack overflows."""
    return f"version 3.0; qubit q; bit b; Rx({'(' * 60_000}1.0{')' * 60_000}) q; b = measure q"


def is_gone(pid: int) -> bool:
    """Whether a process has ended, even if nobody has taken note of it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in {"Z", "X"}
    except OSError:
        return True


def circuit_job(
    job_id: int,
    circuit: str = BELL,
    *,
    uid: int,
    restart: int = 0,
    key: str = "",
    shots: int = 100,
    qpu_seconds: float | None = None,
) -> Admit:
    envelope = Envelope(kind="circuit", source=circuit, file="job.cq", shots=shots, qpu_seconds=qpu_seconds)
    return Admit(job_id=job_id, restart=restart, user="center_a", uid=uid, account="a", center="a", backend="qx",
                 kind="circuit", key=key, envelope=envelope)  # fmt: skip


def hybrid_job(
    job_id: int, source: str, *, uid: int, restart: int = 0, key: str = "", qpu_seconds: float | None = None
) -> Admit:
    envelope = Envelope(kind="hybrid", source=source, file="job.py", qpu_seconds=qpu_seconds)
    return Admit(job_id=job_id, restart=restart, user="center_a", uid=uid, account="a", center="a", backend="qx",
                 kind="hybrid", key=key, envelope=envelope)  # fmt: skip


@contextmanager
def in_job(job_id: int) -> Iterator[None]:
    """What this process (root's) starts meanwhile is of a Slurm job, as what a warm runtime's watcher starts."""
    comm = Path("/proc/self/comm")
    before = comm.read_text()
    comm.write_text(name_of_watcher(job_id))
    try:
        yield
    finally:
        comm.write_text(before)


class Running:
    """Use it as a context manager. `folder` must be short: a Unix socket's path has 107 bytes at most."""

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 1,
        execution_limit_s: float = 60.0,
        log: Path | None = None,
        munge_socket: str = "",
        backend: BackendConfig | None = None,
        python: Path = Path(sys.executable),
        remote: RemoteConfig | None = None,
        sessions: SessionsConfig | None = None,
        runtime_user: str = "",
        root: Path = ROOT,
        before: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.config = DispatcherConfig(
            socket=str(folder / "d.sock"),
            store=str(folder / "store.db"),
            munge_socket=munge_socket,
            trusted_users=[],
            execution_limit_s=execution_limit_s,
            runtime_user=runtime_user,
        )
        self.root = root
        self.before = before
        self.backends = [backend or BackendConfig(name="qx", workers=workers, qubits=24)]
        self.identity: Identity = Munge(munge_socket) if munge_socket else SameUser()
        self.log = log or folder / "log"
        self.python = python
        self.remote = remote or RemoteConfig()
        self.sessions = sessions or SessionsConfig()
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the dispatcher, the first time or again."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.before, str(self.python), "-c", _SERVE, str(self.root),
                    msgspec.json.encode(self.config).decode(), msgspec.json.encode(self.backends).decode(),
                    msgspec.json.encode(self.remote).decode(), msgspec.json.encode(self.sessions).decode(),
                ],
                stderr=log,
            )  # fmt: skip
        return self.process

    def client(self, timeout_s: float = 10.0) -> DispatcherClient:
        return DispatcherClient(self.config.socket, identity=self.identity, timeout_s=timeout_s)

    def ask(self, message: Message) -> Message:
        with self.client() as client:
            return client.ask(message)

    def status(self) -> Status:
        answer = self.ask(GetStatus(jobs=True, queue=100))
        assert isinstance(answer, Status)
        return answer

    def ready(self) -> Running:
        """Wait until its backend can take jobs."""
        until(lambda: self.process.poll() is not None or self._is_ready())
        assert self.process.poll() is None, self.log.read_text()
        return self

    def _is_ready(self) -> bool:
        try:
            return self.status().backends[0].state != "offline"
        except UnreachableError:
            return False

    def executing(self) -> int:
        """How many circuits are being executed."""
        return self.status().backends[0].executing

    def workers(self) -> list[int]:
        """The ids of its child processes."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(word) for word in text.split()]

    def freeze(self) -> list[int]:
        """Stop its quantum runtimes once all have joined: what they are given is under way until they are killed."""
        until(lambda: self.status().backends[0].runtimes == self.backends[0].workers)
        workers = self.workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        return workers

    def reader(self) -> Reader:
        return Reader(self.config.store)

    def final_result(self, task: TaskRecord) -> object:
        """What a task has handed in."""
        found = self.reader().final_result(task)
        return None if found is None else msgspec.json.decode(found)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the answer is the exit status."""
        self.process.terminate()
        return self.process.wait(timeout=20)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@contextmanager
def in_a_thread(home: Path, registry: TaskRegistry, *, trusted: frozenset[int]) -> Iterator[DispatcherClient]:
    """A dispatcher in this process, whose task registry the test has: its client. The store is closed at the end."""
    identity = SameUser()
    with zmq.Context() as context, closing(registry.store):
        dispatcher = Dispatcher(
            registry, identity, DispatcherLimits(trusted, 60.0), context=context, folder=home, read=None
        )
        dispatcher.listen(f"{home}/s")
        thread = threading.Thread(target=dispatcher.run)
        thread.start()
        try:
            with DispatcherClient(f"{home}/s", identity=identity, timeout_s=30.0) as client:
                yield client
        finally:
            dispatcher.stop()
            thread.join()
