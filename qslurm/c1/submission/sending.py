"""Submits jobs: one, or many together. Each job is submitted once, even if C2's response is lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from qslurm.c1.submission.backend_limits import LimitsLookup, no_limits
from qslurm.c1.submission.job_reader import ignore_remark
from qslurm.c1.submission.packing import FEWEST, Package, divided_sweep, halved, packed
from qslurm.c1.submission.prepare import checked
from qslurm.errors import (
    InvalidInputError,
    KeptError,
    QslurmError,
    RefusedError,
    UncertainError,
    UnknownJobError,
    UnreachableError,
)
from qslurm.payload.build import payload_of

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.payload.spec import JobSpec
    from qslurm.slurm.rest import Submitted

    SendOutcome = Submitted | QslurmError | None
    """None: it was not sent because another one failed."""

INVALID_PARTITION = 2000
"""Slurm's error number for an unknown partition (slurm_errno.h)."""

INVALID_ARRAY = 2081
"""Slurm's error number for an invalid or too large array (slurm_errno.h)."""

S = TypeVar("S")
T = TypeVar("T")


def convert_all(items: Sequence[S], convert: Callable[[S], T]) -> list[T]:
    """Convert all; raises the first error."""
    return [convert(item) for item in items]


class Batch:
    """Jobs to submit together. The constructor checks and packs them; an array too large for C2 is sent in parts.

    `separate`: do not combine files into arrays. `each` maps a function over the jobs, and decides how errors are
    reported. `remark` gets notes for the user. InvalidInputError if a job is invalid; nothing has been sent then.
    """

    def __init__(
        self,
        config: Config,
        jobs: Sequence[JobSpec],
        environ: Mapping[str, str],
        *,
        limits: LimitsLookup = no_limits,
        remark: Callable[[str], None] = ignore_remark,
        separate: bool = False,
        each: Callable[[Sequence[Any], Callable[[Any], Any]], list[Any]] = convert_all,
    ) -> None:
        self._config, self._environ = config, environ
        self._jobs: list[JobSpec] = each(jobs, lambda job: checked(config, job, environ, remark, limits))
        together = packed(self._jobs, fewest=len(jobs) + 1 if separate else FEWEST)
        self.packages: list[Package] = each(together, lambda one: self._package(*one))

    def _package(self, members: tuple[int, ...], job: JobSpec, part: JobSpec | None = None) -> Package:
        return Package(payload_of(job, self._config.template_folders()), members, part)

    def send_whole(self, center: CenterConnection) -> Submitted:
        """Submit the only job, without dividing it; raises the error if it is not accepted."""
        (package,) = self.packages
        self._refuse_unknown_dependencies(center)
        return send(center, package.payload)

    def send(
        self,
        center: CenterConnection,
        connect: Callable[[], CenterConnection],
        *,
        on_begin: Callable[[Package], None] = lambda _: None,
        on_done: Callable[[Package, Submitted | QslurmError], None] = lambda _package, _outcome: None,
    ) -> list[tuple[Package, SendOutcome]]:
        """Submit all packages; their outcomes, unordered. `connect` opens further connections for concurrency.

        A refusal affects only its package. After any other error (no response, a refused token) no more are sent.
        `on_begin` and `on_done` are called, in any thread, before and after each is sent.
        InvalidInputError if a job depends on an unknown job; nothing has been sent then.
        """
        self._refuse_unknown_dependencies(center)
        found: list[tuple[Package, SendOutcome]] = []
        packages: Sequence[Package] = self.packages
        while packages:
            sent = _send_all(center, connect, packages, on_begin, on_done)
            packages = []
            for one, outcome in sent:
                parts = self._parts(one) if is_too_large(outcome) else []
                if len(parts) > 1:
                    packages += parts
                else:
                    found.append((one, outcome))
        return found

    def _refuse_unknown_dependencies(self, center: CenterConnection) -> None:
        named = {named for one in self.packages if (named := dependency_of(one.payload))}
        refuse_unknown_dependencies(center, sorted(named))

    def _parts(self, one: Package) -> list[Package]:
        """The parts of an array that is too large for C2; the package itself if it cannot be divided."""
        if one.is_array:
            return [self._package(*half) for half in halved(self._jobs, one.members)]
        parts = divided_sweep(one.part or self._jobs[one.members[0]])
        if len(parts) == 1:
            return [one]
        return [
            self._package(one.members, checked(self._config, part, self._environ), part) for part in parts
        ]


def _send_all(
    center: CenterConnection,
    connect: Callable[[], CenterConnection],
    packages: Sequence[Package],
    on_begin: Callable[[Package], None],
    on_done: Callable[[Package, Submitted | QslurmError], None],
) -> list[tuple[Package, SendOutcome]]:
    if len(packages) == 1:  # in this thread, so that a signal interrupts it
        (package,) = packages
        on_begin(package)
        outcome: Submitted | QslurmError
        try:
            outcome = send(center, package.payload)
        except QslurmError as error:
            outcome = error
        on_done(package, outcome)
        return [(package, outcome)]
    from qslurm.c1.submission.parallel import for_each

    outcomes = for_each(
        connect,
        packages,
        lambda center, package: send(center, package.payload),
        connections=center.submissions_at_once,
        item_error=RefusedError,
        on_begin=lambda place: on_begin(packages[place]),
        on_done=lambda place, outcome: on_done(packages[place], outcome),
    )
    return list(zip(packages, outcomes, strict=True))


def is_too_large(outcome: object) -> bool:
    """Whether C2 refused an array that it might accept in parts."""
    return isinstance(outcome, RefusedError) and outcome.slurm_error == INVALID_ARRAY


def refuse_unknown_dependencies(center: CenterConnection, dependencies: Iterable[str]) -> None:
    """InvalidInputError for a dependency on an unknown job: Slurm would start the job without it."""
    for dependency in dict.fromkeys(dependencies):
        for job_id in sorted({int(word) for word in re.findall(r"(?<=:)\d+", dependency)}):
            try:
                center.slurm.tasks(job_id)
            except UnknownJobError as error:
                raise InvalidInputError(
                    f"Invalid dependency {dependency!r}: C2 has no job {job_id}.",
                    hint="Use job ids of C2, as listed by `qslurm queue`.",
                ) from error


def dependency_of(payload: Mapping[str, Any]) -> str:
    """A payload's dependency, in Slurm's syntax; "" for none."""
    return str(payload["job"].get("dependency") or "")


def send(center: CenterConnection, payload: dict[str, Any]) -> Submitted:
    """Submit a payload to C2. If no response arrives, look the job up by its key before raising UncertainError."""
    from qslurm.payload.comment import Comment

    try:
        return center.slurm.submit(payload)
    except KeptError:
        raise
    except UncertainError as error:
        key = Comment.parse(str(payload.get("job", {}).get("comment", ""))).key
        found, why = None, ""
        try:
            found = _look_up(center, key) if key else None
        except UnreachableError:  # still no response
            pass
        except QslurmError as unseen:
            why = f" Looking it up failed, too: {unseen.message}"
        if found is None:
            raise UncertainError(
                f"{error.message} It is unknown whether C2 has the job.{why}",
                hint=how_to_look(payload),
            ) from error
        return found
    except RefusedError as error:
        raise _with_backends(center, error) from error


def how_to_look(payload: Mapping[str, Any]) -> str:
    """The hint for an uncertain submission."""
    from qslurm.payload.comment import Comment

    key = Comment.parse(str(payload.get("job", {}).get("comment", ""))).key
    key_option = f" --key {key}" if key else ""
    return f"Check `qslurm queue{key_option}` before you submit it again."


def _look_up(center: CenterConnection, key: str) -> Submitted | None:
    from qslurm.slurm.rest import Submitted

    job = center.slurm.find_by_key(key)
    if job is None or not job.job_id:  # the center's agent has it; C2 has not accepted it yet
        return None
    number = job.array_or_job_id  # a started task has its own id
    return Submitted(number, ["C2's response was lost; found the job by its key."], "")


def _with_backends(center: CenterConnection, error: RefusedError) -> RefusedError:
    """Add the existing backends as a hint to a refusal for an unknown partition."""
    if error.slurm_error != INVALID_PARTITION or not center.has_job_manager:
        return error
    try:
        names = sorted(str(one["name"]) for one in center.job_manager.backends() if "name" in one)
    except QslurmError as failure:
        return RefusedError(error.message, hint=f"Cannot list C2's backends: {failure.message}")
    return RefusedError(error.message, hint=f"C2's backends: {', '.join(names)}.") if names else error
