"""Lists over all platforms: one that is away is a line on stderr and the exit code, and the others are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from qslurm.cli.output import error_document, note
from qslurm.errors import QslurmError

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.center import Center
    from qslurm.cli.options import CenterFlags

T = TypeVar("T")


@dataclass
class Gathered(Generic[T]):
    """What each platform has answered, in the order of the platforms, and which did not."""

    answers: list[tuple[Config, T]] = field(default_factory=list)
    failures: dict[str, QslurmError] = field(default_factory=dict)

    @property
    def several(self) -> bool:
        """Whether more than one was asked, so that a row must say whose it is."""
        return len(self.answers) + len(self.failures) > 1

    def document(self, **facts: Any) -> dict[str, Any]:
        """A JSON document that says of which platforms it knows nothing."""
        if not self.failures:
            return facts
        return {**facts, "errors": {name: error_document(error) for name, error in self.failures.items()}}

    def finish(self) -> None:
        """End the command with the worst error's code if there was one; call it when all is printed."""
        if self.failures:
            raise click.exceptions.Exit(max(error.exit_code for error in self.failures.values()))


def ask_all(
    center: CenterFlags,
    question: Callable[[Center], T],
    names: Sequence[str] | None = None,
    enough: Callable[[T], bool] | None = None,
) -> Gathered[T]:
    """Ask every platform that is wanted, or those named, all at once. If none answers, one error is raised.

    Those after the first answer that is `enough` are not waited for.
    """
    gathered: Gathered[T] = Gathered()
    names = center.platforms.wanted if names is None else names
    if len(names) == 1:
        connection = center.open(names[0])
        gathered.answers.append((connection.config, question(connection)))
        return gathered
    from qslurm.c1.connection.fanout import ask_each

    connections = [center.open(name) for name in names]
    answers = ask_each(connections, question, enough)
    for connection, answer in zip(connections, answers, strict=False):
        if isinstance(answer, QslurmError):
            gathered.failures[connection.config.platform] = answer
        else:
            gathered.answers.append((connection.config, answer))
    unsaid = list(gathered.failures.items())
    worst = None if gathered.answers else unsaid.pop()
    for name, error in unsaid:
        note(f"qslurm: {name}: {error}")
    if worst is not None:
        name, error = worst
        raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
    return gathered
