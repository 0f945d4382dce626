"""Jobs that are submitted together. Whoever submits does it by this: one file is many of length one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from qslurm.c1.queries.jobs import dependency_of, refuse_unknown_dependencies, send
from qslurm.c1.submission.backend_limits import Limits, nothing_known
from qslurm.c1.submission.options import unsaid
from qslurm.c1.submission.packing import FEWEST, Package, halved, packed, swept_in_parts
from qslurm.c1.submission.prepare import checked
from qslurm.errors import QslurmError, RefusedError
from qslurm.payload.build import payload_of

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.center import Center
    from qslurm.payload.spec import JobSpec
    from qslurm.slurm.rest import Submitted

    Outcome = Submitted | QslurmError | None
    """None: it was not sent, because of another one's error."""

INVALID_ARRAY = 2081
"""Slurm's error number for an array that is none, or too large (slurm_errno.h)."""

S = TypeVar("S")
T = TypeVar("T")


def in_turn(things: Sequence[S], make: Callable[[S], T]) -> list[T]:
    """What is made of all of them; the first error is raised."""
    return [make(thing) for thing in things]


class Batch:
    """Jobs that are checked and packed when this is made, and then sent; an array that C2 finds too large in parts.

    `separate`: no arrays are made of many files. `each` makes something of every job, and says how errors are raised.
    InvalidInputError, and nothing is sent, if a job can't be.
    """

    def __init__(
        self,
        config: Config,
        jobs: Sequence[JobSpec],
        environ: Mapping[str, str],
        *,
        limits: Limits = nothing_known,
        remark: Callable[[str], None] = unsaid,
        separate: bool = False,
        each: Callable[[Sequence[Any], Callable[[Any], Any]], list[Any]] = in_turn,
    ) -> None:
        self._config, self._environ = config, environ
        self._jobs: list[JobSpec] = each(jobs, lambda job: checked(config, job, environ, remark, limits))
        together = packed(self._jobs, fewest=len(jobs) + 1 if separate else FEWEST)
        self.packages: list[Package] = each(together, lambda one: self._package(*one))

    def _package(self, members: tuple[int, ...], job: JobSpec, part: JobSpec | None = None) -> Package:
        return Package(payload_of(job, self._config.template_folders()), members, part)

    def send_whole(self, center: Center) -> Submitted:
        """Send the only job, which is not divided; raises what keeps C2 from having it."""
        (package,) = self.packages
        self._refuse_unknown_dependencies(center)
        return send(center, package.payload)

    def send(
        self,
        center: Center,
        connect: Callable[[], Center],
        *,
        on_begin: Callable[[Package], None] = lambda _: None,
        on_done: Callable[[Package, Submitted | QslurmError], None] = lambda _package, _outcome: None,
    ) -> list[tuple[Package, Outcome]]:
        """What became of each package, in no order. `connect` opens further connections, where several help.

        A refusal is that package's own. Any other error (no answer, a refused token) keeps those from being sent that
        were not yet. `on_begin` and `on_done` are told, by any thread, of each before it leaves and what came of it.
        InvalidInputError, and nothing is sent, if a job depends on one that C2 does not know.
        """
        self._refuse_unknown_dependencies(center)
        found: list[tuple[Package, Outcome]] = []
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

    def _refuse_unknown_dependencies(self, center: Center) -> None:
        named = {named for one in self.packages if (named := dependency_of(one.payload))}
        refuse_unknown_dependencies(center, sorted(named))

    def _parts(self, one: Package) -> list[Package]:
        """What C2 may take in place of an array that it does not take; itself if it can't be divided."""
        if one.is_array:
            return [self._package(*half) for half in halved(self._jobs, one.members)]
        parts = swept_in_parts(one.part or self._jobs[one.members[0]])
        if len(parts) == 1:
            return [one]
        return [
            self._package(one.members, checked(self._config, part, self._environ), part) for part in parts
        ]


def _send_all(
    center: Center,
    connect: Callable[[], Center],
    packages: Sequence[Package],
    on_begin: Callable[[Package], None],
    on_done: Callable[[Package, Submitted | QslurmError], None],
) -> list[tuple[Package, Outcome]]:
    if len(packages) == 1:  # in this thread, where a signal ends the wait for C2 at once
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
        own=RefusedError,
        on_begin=lambda place: on_begin(packages[place]),
        on_done=lambda place, outcome: on_done(packages[place], outcome),
    )
    return list(zip(packages, outcomes, strict=True))


def is_too_large(outcome: object) -> bool:
    """Whether C2 may take the parts of an array that it does not take."""
    return isinstance(outcome, RefusedError) and outcome.slurm_error == INVALID_ARRAY
