"""Many files with the same options as few requests: each an array, whose tasks have a file each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from qslurm.payload.comment import new_key
from qslurm.payload.spec import JobSpec

FEWEST = 20
"""Files that become an array; fewer are jobs of their own, with names of their own."""

MOST_TASKS = 1000
"""Of one array: Slurm's MaxArraySize is 1001 unless it is set, and an array's indices stay below it."""

MOST_BYTES = 1024 * 1024
"""Of the files in one array: each task's hooks read them all, to find their own."""


class Package(msgspec.Struct, frozen=True):
    """One request to C2, and the places of its files in the user's list; of an array, in the order of its tasks.

    `part` is what is asked for by a sweep that is sent in parts.
    """

    payload: dict[str, Any]
    members: tuple[int, ...]
    part: JobSpec | None = None

    @property
    def skip(self) -> int:
        """How many of its file's tasks other packages have that come before it."""
        return self.part.skip if self.part else 0

    @property
    def is_array(self) -> bool:
        """Whether each file is a task of an array."""
        return len(self.members) > 1

    def task_of(self, member: int) -> int | None:
        """The index of a file's task; None if it is a job of its own."""
        return self.members.index(member) if self.is_array else None


def packed(
    ready: Sequence[JobSpec],
    *,
    fewest: int = FEWEST,
    most_tasks: int = MOST_TASKS,
    most_bytes: int = MOST_BYTES,
) -> list[tuple[tuple[int, ...], JobSpec]]:
    """The same jobs, those with equal options together in arrays, each with its members' places in `ready`.

    An array has so many tasks and bytes of files at most; fewer jobs than `fewest` become none.
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
                (members, _together(ready, members))
                for members in _chunks(ready, places, most_tasks, most_bytes)
            ]
    return sorted(found, key=lambda each: each[0])


def swept_in_parts(job: JobSpec) -> list[JobSpec]:
    """A sweep that C2 finds too large as several arrays: of the size that Slurm usually takes or, if it is no larger,
    its halves. Itself if it can't be divided: it has one task, or its user has said which.
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
    """The two halves of an array, each as an array or, of one file only, as a job of its own."""
    middle = len(members) // 2
    return [(half, _together(ready, half)) for half in (members[:middle], members[middle:])]


def _options(job: JobSpec) -> bytes | None:
    """What a job must have in common with others to share an array with them; None if it can't."""
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


def _together(ready: Sequence[JobSpec], members: tuple[int, ...]) -> JobSpec:
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
    """What the names begin with, without the number behind it: rabi for rabi_000 to rabi_999."""
    first, last = min(names), max(names)  # what these two share, all share
    length = next(
        (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first)
    )
    return first[:length].rstrip("0123456789_-. ")
