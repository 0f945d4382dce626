"""stdout and stderr as every command writes to them: in any locale, and whatever has become of them.

What is printed never decides how a command ends: a letter that the terminal's encoding lacks is replaced, and what
can't be written is remembered until the command has done its work.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress

import click

from qslurm.system.encoding_errors import let_take_any_text

_lost: OSError | None = None


def prepare() -> None:
    """Let this process's stdout and stderr take every text: what their encoding lacks is replaced."""
    _occupy()
    let_take_any_text(sys.stdout)
    let_take_any_text(sys.stderr)


def _occupy() -> None:
    """Let no file of ours, nor of a process of ours, have the number of a standard stream that is closed."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)
    os.close(number)


def write(text: str | bytes = "", *, nl: bool = True) -> bool:
    """Write to stdout; False if it can't be written, which is no error before the command ends (`lost`)."""
    if sys.stdout is None:
        return _keep(OSError(errno.EBADF, "there is no stdout"))
    return _kept(lambda: click.echo(text, nl=nl))


def flush() -> None:
    """Let everything leave that was printed, also by others than `write`. What can't will not be tried again."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not _kept(stream.flush, lost=name == "stdout"):
            setattr(sys, name, None)  # the interpreter would try once more at its end, and make it exit 120


def is_unread() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    import select

    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no stdout, or no file
        return False


def note(text: str, *, nl: bool = True) -> None:
    """A sentence for the user beside the output (stderr)."""
    with suppress(OSError):  # whoever closes stderr does not want to hear it
        click.echo(text, nl=nl, err=True)


def can_rewrite_lines() -> bool:
    """Whether stderr is a terminal on which a line can be written over, and not a pipe or a dumb one."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in (None, "", "dumb")


def room() -> int | None:
    """Columns of the terminal that stdout is; None if it is none, and a line may have any length."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def lost() -> OSError | None:
    """The first error by which output was lost; it is forgotten then."""
    global _lost
    found, _lost = _lost, None
    return found


def _kept(do: Callable[[], object], *, lost: bool = True) -> bool:
    try:
        do()
    except OSError as error:
        return _keep(error) if lost else False
    return True


def _keep(error: OSError) -> bool:
    global _lost  # noqa: PLW0603
    _lost = _lost or error
    return False
