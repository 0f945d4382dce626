"""`qslurm run`: executes one file on this machine, without Slurm and root.

The dispatcher is a process of its own that ends with this one; a hybrid file runs in the main thread, and its
imports are read from the disk while the dispatcher and QX start. Nothing is written to disk, and no other user
can reach any of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from qslurm.errors import InvalidInputError, QslurmError, UnreachableError
from qslurm.payload.envelope import Envelope
from qslurm.runtimes.interface import as_shots
from qslurm.system.bounded_read import read_bounded
from qslurm.system.encoding_errors import without_surrogates

if TYPE_CHECKING:
    from types import TracebackType

    from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
    from qslurm.runtimes.interface import BackendType, Outcome
    from qslurm.wire.blocking import BlockingConnection

_LARGEST_FILE = 4 * 1024 * 1024  # bytes, as on C2


class LocalResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a file: `counts` and `shots` of a circuit, or `final_result` of a hybrid file.

    `executions` is the number of circuits executed, `shots` their total. `remarks` are remarks on the final
    result.
    """

    kind: str
    counts: dict[str, int] | None
    shots: int
    final_result: dict[str, Any] | None
    executions: int
    remarks: tuple[str, ...] = ()


def run_file(
    path: Path, shots: int | None = None, seed: int | None = None, parameters: Mapping[str, str] | None = None
) -> LocalResult:
    """Run a circuit (any file but `.py`) or a hybrid file (`.py`) on the QX emulator.

    `shots` are a circuit's (default 1024), `seed` makes the emulator repeat itself, `parameters` are values for
    `{{ name }}` in a circuit and for `qi.parameters`. Raises InvalidInputError or CircuitError with line and
    column for a file that cannot be run, JobFailedError for one that fails.
    """
    path = Path(path)
    source, file = _text(path), without_surrogates(path.name)
    kind = "hybrid" if path.suffix == ".py" else "circuit"
    if kind == "hybrid":
        from qslurm.runtimes.hybrid.hybrid_file import check_hybrid

        check_hybrid(source, file)
    else:
        from qslurm.circuits.openqasm import as_cqasm
        from qslurm.payload.sweep import filled, refuse_unfilled

        if source.startswith("#!") or path.suffix == ".json":
            raise InvalidInputError(
                f"{path} is neither a circuit nor a hybrid Python file.",
                hint="Other files run only on C2: use `qslurm submit`.",
            )
        source = filled(source, parameters or {})
        refuse_unfilled(source, file)
        source = as_cqasm(source, file)
    shots = None if shots is None else as_shots(shots)
    envelope = Envelope(kind=kind, source=source, file=file, shots=shots, seed=seed)  # type: ignore[arg-type]
    with _Job(envelope) as job:
        if kind == "circuit":
            outcome = job.circuit_outcome()
            return LocalResult(
                kind=kind, counts=outcome.counts, shots=outcome.shots_done, final_result=None, executions=1
            )
        from qslurm.runtimes.hybrid.hybrid_file import run_hybrid

        remarks: list[str] = []
        result = run_hybrid(source, file, job, shots=shots, parameters=parameters, remark=remarks.append)
        return LocalResult(
            kind=kind,
            counts=None,
            shots=job.shots,
            final_result=result,
            executions=job.executions,
            remarks=tuple(remarks),
        )


class _Job:
    """The job of a local dispatcher, and the transport of its `qi`.

    Its session is opened with its first request; until then the dispatcher and QX get ready.
    """

    def __init__(self, envelope: Envelope) -> None:
        import socket

        from qslurm.local.local_dispatcher import LocalDispatcher
        from qslurm.system.child_process import low_limits

        try:
            self._connection, theirs = socket.socketpair()
            with theirs:
                self._dispatcher = LocalDispatcher(theirs, envelope)
        except OSError as error:
            raise QslurmError(
                f"Cannot start the local dispatcher: {error.strerror}.", hint=low_limits()
            ) from error

    @cached_property
    def session(self) -> DispatcherSession:
        """The job's session; InvalidInputError if the dispatcher does not admit it."""
        from qslurm.local.local_dispatcher import ANSWER_S, JOB
        from qslurm.protocol.dispatcher_client import DispatcherClient
        from qslurm.runtimes.classical.dispatcher_session import DispatcherSession
        from qslurm.wire.credentials import SameUser

        client = DispatcherClient("of this run", identity=SameUser(), link=self._link)
        with self._explained():
            session = DispatcherSession(client, JOB, 0, say=_say, patience_s=ANSWER_S, away_s=0.0, lanes=True)
        if session.attached.state == "failed":
            raise InvalidInputError(session.attached.reason)
        return session

    def circuit_outcome(self) -> Outcome:
        """The result of a circuit job."""
        with self._explained():
            return self.session.circuit_outcome()

    def _link(self, _: float) -> BlockingConnection:
        """The connection to the dispatcher."""
        from qslurm.protocol.dispatcher_client import step_connection

        if self._connection.fileno() < 0:
            raise ConnectionResetError("it was given up")
        return step_connection(self._connection)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise the reason if the dispatcher does not answer."""
        try:
            yield
        except UnreachableError as error:
            raise self._dispatcher.failure() from error

    @property
    def executions(self) -> int:
        """Number of circuits submitted."""
        return self.session.executions if "session" in self.__dict__ else 0

    @property
    def shots(self) -> int:
        """Total number of shots executed."""
        return self.session.shots if "session" in self.__dict__ else 0

    @property
    def backend_type(self) -> BackendType:
        """See CircuitTransport."""
        return self.session.backend_type

    def execute(self, circuit: str, number_of_shots: int, raw_data: bool) -> Outcome:
        """See CircuitTransport."""
        with self._explained():
            return self.session.execute(circuit, number_of_shots, raw_data)

    def execute_many(
        self, circuits: Iterable[str], number_of_shots: int, raw_data: bool
    ) -> Iterator[Outcome]:
        """See CircuitTransport."""
        with self._explained():
            yield from self.session.execute_many(circuits, number_of_shots, raw_data)

    def __enter__(self) -> _Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "session" in self.__dict__:
            self.session.close()
        self._connection.close()
        self._dispatcher.close()


def _text(path: Path) -> str:
    try:
        data = read_bounded(path, _LARGEST_FILE)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InvalidInputError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not a text file: invalid UTF-8 at byte {error.start}.") from error
    if len(data) > _LARGEST_FILE:
        raise InvalidInputError(f"{path} is larger than {_LARGEST_FILE >> 20} MiB.")
    if not text.strip():
        raise InvalidInputError(
            f"{path} is empty.", hint="Use a circuit (cQASM, OpenQASM) or a hybrid Python file."
        )
    return text


def _say(reason: str) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"qslurm: waiting: {reason.rstrip('.')}.", file=sys.stderr, flush=True)
