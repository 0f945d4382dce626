"""Queries over all platforms; a platform that does not answer is reported on stderr and in the exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from qslurm.cli.output import error_document, note
from qslurm.errors import QslurmError

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.cli.shared_options import CenterFlags

T = TypeVar("T")


@dataclass
class PlatformAnswers(Generic[T]):
    """Each platform's answer, in the order of the platforms, and the errors of those that gave none."""

    answers: list[tuple[Config, T]] = field(default_factory=list)
    failures: dict[str, QslurmError] = field(default_factory=dict)

    @property
    def several(self) -> bool:
        """Whether more than one platform was queried, so that rows need a PLATFORM column."""
        return len(self.answers) + len(self.failures) > 1

    def document(self, **facts: Any) -> dict[str, Any]:
        """A JSON document with these facts, and an error for each platform that did not answer."""
        if not self.failures:
            return facts
        return {**facts, "errors": {name: error_document(error) for name, error in self.failures.items()}}

    def finish(self) -> None:
        """Exit with the highest of the errors' exit codes, if there are errors; call it after printing."""
        if self.failures:
            raise click.exceptions.Exit(max(error.exit_code for error in self.failures.values()))


def query_all(
    center: CenterFlags,
    query: Callable[[CenterConnection], T],
    names: Sequence[str] | None = None,
    enough: Callable[[T], bool] | None = None,
) -> PlatformAnswers[T]:
    """Query the selected platforms, or those named, in parallel. If none answers, raise one error.

    After the first answer that is `enough`, the remaining platforms are not waited for.
    """
    gathered: PlatformAnswers[T] = PlatformAnswers()
    names = center.platforms.wanted if names is None else names
    if len(names) == 1:
        connection = center.open(names[0])
        gathered.answers.append((connection.config, query(connection)))
        return gathered
    from qslurm.c1.connection.fanout import query_each

    connections = [center.open(name) for name in names]
    answers = query_each(connections, query, enough)
    for connection, answer in zip(connections, answers, strict=False):
        if isinstance(answer, QslurmError):
            gathered.failures[connection.config.platform] = answer
        else:
            gathered.answers.append((connection.config, answer))
    remaining = list(gathered.failures.items())
    worst = None if gathered.answers else remaining.pop()
    for name, error in remaining:
        note(f"qslurm: {name}: {error}")
    if worst is not None:
        name, error = worst
        raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
    return gathered
