"""Sends packed jobs; an array that C2 finds too large, in parts: one rule for many files and for a sweep."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qslurm.c1.queries.jobs import dependency_of, refuse_unknown_dependencies
from qslurm.c1.submission.packing import Package, halved, swept_in_parts
from qslurm.c1.submission.parallel import submit_many
from qslurm.c1.submission.request import Checked, checked, payload_of
from qslurm.errors import QslurmError, RefusedError

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.center import Center
    from qslurm.slurm.rest import Submitted

INVALID_ARRAY = 2081
"""Slurm's error number for an array that is none, or too large (slurm_errno.h)."""


def package_of(config: Config, members: tuple[int, ...], one: Checked) -> Package:
    """The request to C2 that packed jobs become; see `packed`."""
    return Package(payload_of(config, one), members)


@dataclass(frozen=True)
class Sending:
    """How packages of `ready` jobs are sent, and who wants to hear of each: before it leaves, and what came of it."""

    config: Config
    ready: Sequence[Checked]
    connect: Callable[[], Center]
    connections: int
    on_begin: Callable[[Package], None] = lambda _: None
    on_done: Callable[[Package, Submitted | QslurmError], None] = lambda _package, _outcome: None

    def send(self, packages: Sequence[Package]) -> list[tuple[Package, Submitted | QslurmError | None]]:
        """What became of each package, in no order; see `submit_many`.

        InvalidInputError, and nothing is sent, if one depends on a job that C2 does not know.
        """
        if dependencies := {named for one in packages if (named := dependency_of(one.payload))}:
            center = self.connect()
            try:
                refuse_unknown_dependencies(center, sorted(dependencies))
            finally:
                center.close()
        found: list[tuple[Package, Submitted | QslurmError | None]] = []
        while packages:
            sent = self._once(packages)
            packages = []
            for one, outcome in sent:
                parts = self._parts(one) if is_too_large(outcome) else []
                if len(parts) > 1:
                    packages += parts
                else:
                    found.append((one, outcome))
        return found

    def _parts(self, one: Package) -> list[Package]:
        """What C2 may take in place of an array that it does not take; itself if it can't be divided."""
        if one.is_array:
            return [package_of(self.config, *half) for half in halved(self.ready, one.members)]
        parts = swept_in_parts(one.part or self.ready[one.members[0]].request)
        if len(parts) == 1:
            return [one]
        return [
            Package(payload_of(self.config, checked(self.config, part, os.environ)), one.members, part)
            for part in parts
        ]

    def _once(self, packages: Sequence[Package]) -> list[tuple[Package, Submitted | QslurmError | None]]:
        outcomes = submit_many(
            self.connect,
            [one.payload for one in packages],
            connections=self.connections,
            on_begin=lambda place: self.on_begin(packages[place]),
            on_done=lambda place, outcome: self.on_done(packages[place], outcome),
        )
        return list(zip(packages, outcomes, strict=True))


def is_too_large(outcome: object) -> bool:
    """Whether C2 may take the parts of an array that it does not take."""
    return isinstance(outcome, RefusedError) and outcome.slurm_error == INVALID_ARRAY
