"""Writes to stdout and stderr, in any locale, even if they are closed.

Output errors do not interrupt a command: characters that the terminal's encoding lacks are replaced, and the first
write error is kept until the command has finished.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress

import click

from qslurm.system.encoding_errors import replace_unencodable

_lost: OSError | None = None


def prepare() -> None:
    """Let stdout and stderr accept any text: characters that their encoding lacks are replaced."""
    _reserve_standard_streams()
    replace_unencodable(sys.stdout)
    replace_unencodable(sys.stderr)


def _reserve_standard_streams() -> None:
    """Open /dev/null for closed standard streams, so that no other file gets their numbers."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)
    os.close(number)


def write(text: str | bytes = "", *, nl: bool = True) -> bool:
    """Write to stdout; False if this fails, which is reported when the command ends (`take_lost`)."""
    if sys.stdout is None:
        return _keep_error(OSError(errno.EBADF, "there is no stdout"))
    return _try_write(lambda: click.echo(text, nl=nl))


def flush() -> None:
    """Flush stdout and stderr; a stream that cannot be flushed is dropped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not _try_write(stream.flush, lost=name == "stdout"):
            setattr(sys, name, None)  # or the interpreter would try again at exit, and exit with 120


def is_unread() -> bool:
    """Whether stdout is a closed pipe."""
    import select

    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no stdout, or not a file
        return False


def note(text: str, *, nl: bool = True) -> None:
    """Write a message to stderr."""
    with suppress(OSError):  # stderr was closed on purpose
        click.echo(text, nl=nl, err=True)


def can_rewrite_lines() -> bool:
    """Whether stderr is a terminal on which a line can be overwritten."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in (None, "", "dumb")


def terminal_columns() -> int | None:
    """Columns of the terminal on stdout; None if stdout is not a terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def take_lost() -> OSError | None:
    """The first write error on stdout, if any; resets it."""
    global _lost
    found, _lost = _lost, None
    return found


def _try_write(do: Callable[[], object], *, lost: bool = True) -> bool:
    try:
        do()
    except OSError as error:
        return _keep_error(error) if lost else False
    return True


def _keep_error(error: OSError) -> bool:
    global _lost  # noqa: PLW0603
    _lost = _lost or error
    return False
