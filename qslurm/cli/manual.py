"""`qslurm man` and `qslurm completion`, generated from the commands' help."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from qslurm import __version__
from qslurm.cli import streams
from qslurm.errors import InvalidInputError, QslurmError

EXIT_CODES = (
    (0, "Success."),
    (1, "Unexpected error; see the message on stderr."),
    (2, "Invalid usage or input; nothing was sent to C2."),
    (3, "C2 refused the request."),
    (4, "Invalid token or missing permission."),
    (5, "C2 is unreachable."),
    (6, "The job failed."),
    (7, "The job was cancelled."),
    (8, "The job, or the wait for it, timed out."),
)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that makes SHELL complete qslurm's commands, options and files.

    \b
    Examples:
      qslurm completion bash > ~/.local/share/bash-completion/completions/qslurm
      qslurm completion zsh > "${fpath[1]}/_qslurm"
      qslurm completion fish > ~/.config/fish/completions/qslurm.fish
    """
    from click.shell_completion import get_completion_class

    from qslurm.cli.app import COMPLETION
    from qslurm.cli.app import qslurm as program

    made = get_completion_class(shell)
    assert made is not None  # a Choice
    streams.write(made(program, {}, "qslurm", COMPLETION).source())


@click.command()
@click.argument("command", nargs=-1)
@click.option(
    "--write",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write all pages to FOLDER, for example /usr/local/share/man/man1.",
)
def man(command: tuple[str, ...], write: Path | None) -> None:
    """Show the manual page of qslurm, or of one COMMAND.

    \b
    Examples:
      qslurm man submit
      qslurm man --write /usr/local/share/man/man1
    """
    pages = dict(_pages())
    if write is not None:
        if command:
            raise click.UsageError("--write writes all pages and takes no COMMAND.")
        _write(pages, write)
        return
    name = "-".join(("qslurm", *command))
    if name not in pages:
        raise InvalidInputError(f"Unknown command {' '.join(command)!r}.", hint="See `qslurm --help`.")
    _show(pages[name])


def _write(pages: dict[str, str], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, page in pages.items():
            (folder / f"{name}.1").write_text(page, encoding="utf-8")
    except OSError as error:
        raise QslurmError(f"Cannot write the manual to {folder}: {error.strerror}.") from error
    streams.write(f"Wrote {len(pages)} pages to {folder}")


def _show(page: str) -> None:
    """On a terminal by man(1), elsewhere as it is."""
    import shutil
    import subprocess

    program = shutil.which("man")
    if program is None or sys.stdout is None or not sys.stdout.isatty():
        streams.write(page, nl=False)
        return
    subprocess.run([program, "-l", "-"], input=page.encode(), check=False)


def _pages() -> Iterator[tuple[str, str]]:
    """Every page, by its name."""
    from qslurm.cli.app import qslurm as program

    waiting: list[tuple[tuple[str, ...], click.Command]] = [(("qslurm",), program)]
    while waiting:
        path, command = waiting.pop(0)
        if command.hidden:
            continue
        context = click.Context(command, info_name=" ".join(path))
        children = []
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None  # it was listed
                children.append((name, child))
        yield (
            "-".join(path),
            page_of(path, command, context, [name for name, child in children if not child.hidden]),
        )
        waiting += [((*path, name), child) for name, child in children]


def page_of(
    path: tuple[str, ...], command: click.Command, context: click.Context, children: list[str]
) -> str:
    """A command's manual page, in the macros of man(7)."""
    name = "-".join(path)
    text, examples = _help(command)
    summary = _escaped(text[0].split("\n")[0].rstrip(".") if text else name)
    lines = [
        f'.TH "{name.upper()}" "1" "" "qslurm {__version__}" "qslurm"',
        ".SH NAME",
        f"{_escaped(name)} \\- {summary}",
        ".SH SYNOPSIS",
        f".B {_escaped(' '.join(path))}",
        _escaped(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
    ]
    for paragraph in text:
        lines += [".PP", _escaped(paragraph)]
    options = [
        param.get_help_record(context)
        for param in command.get_params(context)
        if isinstance(param, click.Option)
    ]
    if options:
        lines.append(".SH OPTIONS")
        for option, help_text in filter(None, options):
            lines += [".TP", f"\\fB{_escaped(option)}\\fR", _escaped(help_text)]
    if children:
        lines += [".SH COMMANDS", _escaped(", ".join(f"{name}-{child}(1)" for child in children))]
    if examples:
        lines += [".SH EXAMPLES", ".nf", *(_escaped(line) for line in examples), ".fi"]
    lines.append(".SH EXIT STATUS")
    for code, help_text in EXIT_CODES:
        lines += [".TP", f"\\fB{code}\\fR", _escaped(help_text)]
    if len(path) > 1:
        lines += [".SH SEE ALSO", _escaped(f"{'-'.join(path[:-1])}(1)")]
    return "\n".join(lines) + "\n"


def _help(command: click.Command) -> tuple[list[str], list[str]]:
    """The paragraphs of a command's help, and the lines of its examples."""
    paragraphs, examples = [], []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        kept = block.startswith("\b")
        text = block.removeprefix("\b").strip("\n")
        if kept and re.match(r"Examples?:", text):
            examples += re.sub(r"^Examples?:\s*", "", text).splitlines()
        elif text:
            paragraphs.append(text if kept else " ".join(text.split()))
    if command.epilog:
        examples.append(re.sub(r"^Example[^:]*:\s*", "", command.epilog))
    return paragraphs, [line.strip() for line in examples]


def _escaped(text: str) -> str:
    """Text that roff reads as itself."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(['.])", r"\\&\1", text, flags=re.MULTILINE)
