"""`qslurm run`: the whole quantum side on this machine, for one file, without Slurm and without root.

The dispatcher is a thread of this process, its quantum runtime a process that ends with this one; a hybrid file
runs in the main thread. Nothing is written to disk, and nobody else can reach any of it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from qslurm.bounded import read_bounded
from qslurm.dispatcher.config import BackendConfig
from qslurm.dispatcher.messages import Admit, TurnedAway
from qslurm.errors import InvalidInputError
from qslurm.payload.envelope import Envelope

if TYPE_CHECKING:
    from qslurm.runtimes.session import Session

_JOB = 1
_LONGEST_FOLDER = 80  # bytes
_LARGEST_FILE = 4 * 1024 * 1024  # bytes, as on C2
_ENDPOINT = "inproc://dispatcher"


class LocalResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a file gave: `counts` and `shots` of a circuit, or the `final_result` of a hybrid file.

    `executions` counts the circuits that were executed, `shots` is their sum.
    """

    kind: str
    counts: dict[str, int] | None
    shots: int
    final_result: dict[str, Any] | None
    executions: int


def run_file(
    path: Path, shots: int | None = None, seed: int | None = None, parameters: Mapping[str, str] | None = None
) -> LocalResult:
    """Run a circuit (any file but `.py`) or a hybrid file (`.py`) on the QX emulator.

    `shots` are a circuit's (default 1024), `seed` makes the emulator repeat itself, `parameters` are values for
    `{{ name }}` in a circuit and for `qi.parameters`. What can't be run is an
    InvalidInputError or CircuitError with line and column; a file that fails is a JobFailedError.
    """
    path = Path(path)
    source = _text(path)
    kind = "hybrid" if path.suffix == ".py" else "circuit"
    if kind == "hybrid":
        from qslurm.runtimes.hybrid_file import check_hybrid

        check_hybrid(source, path.name)
    else:
        from qslurm.payload.sweep import filled, refuse_unfilled
        from qslurm.runtimes.openqasm import as_cqasm

        source = filled(source, parameters or {})
        refuse_unfilled(source, path.name)
        source = as_cqasm(source, path.name)
    envelope = Envelope(kind=kind, source=source, file=path.name, shots=shots, seed=seed)  # type: ignore[arg-type]
    with _dispatcher(envelope) as session:
        if kind == "circuit":
            outcome = session.circuit_outcome()
            return LocalResult(
                kind=kind, counts=outcome.counts, shots=outcome.shots_done, final_result=None, executions=1
            )
        from qslurm.runtimes.hybrid_file import run_hybrid

        result = run_hybrid(source, path.name, session, shots=shots, parameters=parameters)
        return LocalResult(
            kind=kind, counts=None, shots=session.shots, final_result=result, executions=session.executions
        )


@contextmanager
def _dispatcher(envelope: Envelope) -> Iterator[Session]:
    """A dispatcher with this one job admitted, and the job's session; all of it is gone afterwards."""
    import zmq

    from qslurm.dispatcher import jobs
    from qslurm.dispatcher.client import DispatcherClient
    from qslurm.dispatcher.credentials import OwnProcess
    from qslurm.dispatcher.door import own_door
    from qslurm.dispatcher.ledger import Ledger
    from qslurm.dispatcher.server import Limits, Server
    from qslurm.runtimes.session import Session
    from qslurm.store.store import Store

    backend = BackendConfig(name="qx")
    store = Store()
    ledger = Ledger([backend], store)
    answer = jobs.admit(ledger, _job(envelope), "")
    if isinstance(answer, TurnedAway):
        raise InvalidInputError(answer.reason)
    identity = OwnProcess()
    with zmq.Context() as context:
        limits = Limits(frozenset(), float("inf"))
        server = Server(ledger, identity, limits, context=context, folder=_folder(), read=None)
        server.bind(_ENDPOINT)
        inside, outside = own_door()
        server.let_in(inside)
        doors = iter([outside])
        thread = threading.Thread(target=server.run, name="dispatcher", daemon=True)
        thread.start()
        try:
            with DispatcherClient(_ENDPOINT, identity=identity, context=context) as client:
                session = Session(client, _JOB, 0, say=_say, patient=False, door=lambda: next(doors, None))
                with closing(session):
                    yield session
        finally:
            if thread.is_alive():
                server.stop()
            thread.join()
            outside.close()
            store.close()


def _job(envelope: Envelope) -> Admit:
    return Admit(
        job_id=_JOB,
        restart=0,
        user="",
        uid=os.getuid(),
        account="",
        center="",
        backend="qx",
        kind=envelope.kind,
        name=envelope.file,
        envelope=envelope,
    )


def _folder() -> Path:
    """Where the quantum runtime's socket is for a moment; a long TMPDIR has no room for it."""
    folder = tempfile.gettempdir()
    return Path(folder if len(os.fsencode(folder)) <= _LONGEST_FOLDER else "/tmp")  # noqa: S108 - mkdtemp within


def _text(path: Path) -> str:
    try:
        data = read_bounded(path, _LARGEST_FILE)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InvalidInputError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not a text file: byte {error.start} is not UTF-8.") from error
    if len(data) > _LARGEST_FILE:
        raise InvalidInputError(f"{path} is larger than {_LARGEST_FILE >> 20} MiB.")
    if not text.strip():
        raise InvalidInputError(
            f"{path} is empty.", hint="Give a circuit in cQASM 3.0 or a hybrid Python file."
        )
    return text


def _say(reason: str) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"qslurm: waiting: {reason.rstrip('.')}.", file=sys.stderr, flush=True)
