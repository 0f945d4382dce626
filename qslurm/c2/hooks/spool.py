"""The gate's directory: hooks' records for the gate, the partitions' desired states, and the hooks' log.

wishes.json                       each partition's desired state, set by operators
turned-away/<job_id>.json         a job that its prolog has requeued
finish/<job_id>.<restart>.json    an end of a job that is not yet reported to the dispatcher
unreadable/                       damaged files, for operators
hooks.log, hooks.log.1            one line for each hook that ran
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from qslurm.errors import PermissionDeniedError, QslurmError
from qslurm.reason_codes import ReasonCode
from qslurm.system.atomic_file import write_atomically
from qslurm.system.logfmt import Field, line

LOG_LIMIT = 8 * 1024 * 1024
"""Size in bytes at which hooks.log is renamed to hooks.log.1."""

Record = TypeVar("Record", bound=msgspec.Struct)


class TurnedAwayJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that was requeued: `when` the last time (Unix seconds), and how many `times` in a row.

    `slurm_id` is its id in Slurm's commands, 12_3 for an array task.
    """

    job_id: int
    slurm_id: str = ""
    restart: int
    partition: str
    when: float
    times: int
    reason: str
    center: str = ""


class EndedJob(msgspec.Struct, frozen=True, kw_only=True):
    """An end of a job. `state` is "" if it is unknown; then `restart` is the one in the hook's environment.

    With a state, the fields are those of the dispatcher's Finish. `when` is when slurmctld called the hook, `ended_at`
    the job's end time in slurmctld (Unix seconds).
    """

    job_id: int
    restart: int
    when: float
    state: str = ""
    exit_code: int | None = None
    reason: str = ""
    reason_code: ReasonCode = ReasonCode.NONE
    key: str = ""
    center: str = ""
    ended_at: float | None = None


class DesiredState(msgspec.Struct, frozen=True, kw_only=True):
    """A partition's desired state: set `by` whom, `since` when (Unix seconds) and `why`."""

    state: Literal["enabled", "drained", "closed"]
    by: str
    since: float
    why: str = ""


class _DesiredStates(msgspec.Struct, kw_only=True):
    partitions: dict[str, DesiredState] = {}
    version: Literal[1] = 1


class Spool:
    """The directory. Files are written atomically; a damaged one is moved away."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    # --- records -------------------------------------------------------------------------------------

    def put(self, record: TurnedAwayJob | EndedJob) -> None:
        """Write a record; replaces one for the same job (and restart, for an end)."""
        self._write(self._path(record), msgspec.json.encode(record))

    def remove(self, record: TurnedAwayJob | EndedJob) -> None:
        """Remove a record, if it exists."""
        self._path(record).unlink(missing_ok=True)

    def turned_away(self) -> list[TurnedAwayJob]:
        """All requeued jobs, oldest first."""
        return sorted(self._records("turned-away", TurnedAwayJob), key=lambda record: record.when)

    def ended(self) -> list[EndedJob]:
        """All undelivered ends, oldest first."""
        return sorted(self._records("finish", EndedJob), key=lambda record: record.when)

    def turned_away_job(self, job_id: int) -> TurnedAwayJob | None:
        """A job's record, if it was requeued."""
        return self._read(self.folder / "turned-away" / f"{job_id}.json", TurnedAwayJob)

    # --- desired states ------------------------------------------------------------------------------

    def desired_states(self) -> dict[str, DesiredState]:
        """Desired states by partition. If the file is damaged there are none, and all partitions are drained."""
        found = self._read(self.folder / "wishes.json", _DesiredStates)
        return {} if found is None else found.partitions

    def set_desired_state(self, partition: str, desired: DesiredState) -> None:
        """Set a partition's desired state."""
        states = _DesiredStates(partitions=self.desired_states() | {partition: desired})
        self._write(self.folder / "wishes.json", msgspec.json.encode(states), mode=0o644)

    # --- the hooks' log ------------------------------------------------------------------------------

    def log(
        self,
        part: str,
        event: str,
        fields: Mapping[str, Field],
        *,
        level: str = "info",
        now: float | None = None,
    ) -> None:
        """Append a line to hooks.log; to stderr if that fails."""
        data = line(part, level, event, fields, now=now).encode()
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
            handle = os.open(self.folder / "hooks.log", flags, 0o640)
            try:
                os.write(handle, data)
            finally:
                os.close(handle)
        except OSError:
            os.write(2, data)

    def rotate_log(self, limit: int = LOG_LIMIT) -> None:
        """Rename hooks.log to hooks.log.1 if it is larger than `limit` bytes."""
        log = self.folder / "hooks.log"
        if log.exists() and log.stat().st_size > limit:
            log.replace(log.with_name("hooks.log.1"))

    # --- files ---------------------------------------------------------------------------------------

    def _path(self, record: TurnedAwayJob | EndedJob) -> Path:
        if isinstance(record, TurnedAwayJob):
            return self.folder / "turned-away" / f"{record.job_id}.json"
        return self.folder / "finish" / f"{record.job_id}.{record.restart}.json"

    def _write(self, path: Path, data: bytes, *, mode: int = 0o640) -> None:
        with _as_ours(self.folder):
            owner = self.folder.stat()
            path.parent.mkdir(mode=0o755, exist_ok=True)
            # A file that root writes must be replaceable by the gate.
            owns = (owner.st_uid, owner.st_gid) if os.geteuid() == 0 else (-1, -1)
            if os.geteuid() == 0:
                os.chown(path.parent, *owns)
            write_atomically(path, data, mode=mode, owner=owns[0], group=owns[1])

    def _records(self, folder: str, kind: type[Record]) -> Iterator[Record]:
        with _as_ours(self.folder):
            paths = sorted((self.folder / folder).glob("*.json"))
        for path in paths:
            record = self._read(path, kind)
            if record is not None:
                yield record

    def _read(self, path: Path, kind: type[Record]) -> Record | None:
        with _as_ours(self.folder):
            try:
                return msgspec.json.decode(path.read_bytes(), type=kind)
            except FileNotFoundError:
                return None
            except msgspec.DecodeError as error:
                self._set_aside(path, str(error))
                return None

    def _set_aside(self, path: Path, why: str) -> None:
        place = self.folder / "unreadable"
        place.mkdir(mode=0o755, exist_ok=True)
        path.replace(place / f"{path.name}.{int(time.time())}")
        job = path.name.split(".")[0]
        about = {"job": job if job.isdigit() else None, "file": path.name, "why": why, "folder": str(place)}
        self.log("gate", "damaged file set aside", about, level="warning")


@contextmanager
def _as_ours(folder: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise PermissionDeniedError(
            f"Permission denied: the gate's directory {folder}.", hint="Run this as root or as SlurmUser."
        ) from error
    except OSError as error:
        raise QslurmError(f"Cannot use the gate's directory {folder}: {error}.") from error
