"""Combines files with the same options into arrays, with one file per task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from qslurm.payload.comment import new_key
from qslurm.payload.spec import JobSpec

FEWEST = 20
"""Minimum files to make an array; fewer are separate jobs with their own names."""

MOST_TASKS = 1000
"""Maximum tasks of an array: Slurm's default MaxArraySize is 1001, and indexes are below it."""

MOST_BYTES = 1024 * 1024
"""Maximum bytes of the files in an array: each task's hooks read all of them."""


class Package(msgspec.Struct, frozen=True):
    """One submission, and the positions of its files in the user's list, in the order of the array's tasks.

    `part` is the job of one part, if a sweep is sent in parts.
    """

    payload: dict[str, Any]
    members: tuple[int, ...]
    part: JobSpec | None = None

    @property
    def skip(self) -> int:
        """The number of the file's tasks in earlier packages."""
        return self.part.skip if self.part else 0

    @property
    def is_array(self) -> bool:
        """Whether each file is a task of an array."""
        return len(self.members) > 1

    def task_of(self, member: int) -> int | None:
        """The index of a file's task; None if it is a separate job."""
        return self.members.index(member) if self.is_array else None


def packed(
    ready: Sequence[JobSpec],
    *,
    fewest: int = FEWEST,
    most_tasks: int = MOST_TASKS,
    most_bytes: int = MOST_BYTES,
) -> list[tuple[tuple[int, ...], JobSpec]]:
    """The jobs, those with equal options combined into arrays, each with the positions of its members in `ready`.

    Fewer than `fewest` jobs are not combined; an array has at most `most_tasks` tasks and `most_bytes` of files.
    """
    groups: dict[object, list[int]] = {}
    for place, one in enumerate(ready):
        groups.setdefault(_options(one) or place, []).append(place)
    found: list[tuple[tuple[int, ...], JobSpec]] = []
    for places in groups.values():
        if len(places) < fewest:
            found += [((place,), ready[place]) for place in places]
        else:
            found += [
                (members, _combined(ready, members))
                for members in _chunks(ready, places, most_tasks, most_bytes)
            ]
    return sorted(found, key=lambda each: each[0])


def divided_sweep(job: JobSpec) -> list[JobSpec]:
    """Divide a sweep that is too large for C2 into arrays of Slurm's default size, or else into halves.

    Returns the job itself if it cannot be divided: it has one task, or an explicit --array.
    """
    from qslurm.payload.sweep import parse_sweeps

    if not job.sweep or (job.array and not job.array.startswith("%")):
        return [job]
    tasks = job.tasks or len(parse_sweeps(job.sweep)) - job.skip
    size = MOST_TASKS if tasks > MOST_TASKS else -(-tasks // 2)
    return [
        msgspec.structs.replace(job, skip=job.skip + first, tasks=min(size, tasks - first))
        for first in range(0, tasks, size)
    ]


def halved(ready: Sequence[JobSpec], members: tuple[int, ...]) -> list[tuple[tuple[int, ...], JobSpec]]:
    """The two halves of an array; a half with one file is a separate job."""
    middle = len(members) // 2
    return [(half, _combined(ready, half)) for half in (members[:middle], members[middle:])]


def _options(job: JobSpec) -> bytes | None:
    """The options that jobs of one array share, encoded; None if this job cannot be in an array."""
    if job.kind not in ("circuit", "hybrid") or job.template or job.indices:
        return None
    alike = msgspec.structs.replace(job, source="", file=None, key="")
    return msgspec.msgpack.encode(alike)


def _chunks(
    ready: Sequence[JobSpec], places: Iterable[int], most_tasks: int, most_bytes: int
) -> list[tuple[int, ...]]:
    chunks: list[tuple[int, ...]] = []
    chunk: list[int] = []
    room = most_bytes
    for place in places:
        size = len(msgspec.json.encode(ready[place].source))
        if chunk and (len(chunk) == most_tasks or size > room):
            chunks.append(tuple(chunk))
            chunk, room = [], most_bytes
        chunk.append(place)
        room -= size
    return [*chunks, tuple(chunk)]


def _combined(ready: Sequence[JobSpec], members: tuple[int, ...]) -> JobSpec:
    jobs = [ready[place] for place in members]
    if len(jobs) == 1:
        return jobs[0]
    return msgspec.structs.replace(
        jobs[0],
        name=jobs[0].name or _common_name([job.job_name for job in jobs]) or jobs[0].kind,
        file=Path(f"{len(jobs)} files"),
        source="",
        sources=tuple((job.file_name, job.source or "") for job in jobs),
        indices=f"0-{len(jobs) - 1}",
        key=new_key(),
    )


def _common_name(names: Sequence[str]) -> str:
    """The names' common prefix, without digits at its end: rabi for rabi_000 to rabi_999."""
    first, last = min(names), max(names)  # their common prefix is that of all
    length = next(
        (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first)
    )
    return first[:length].rstrip("0123456789_-. ")
