"""The command tree, and the output and exit code of errors.

A command's module is imported on first use: `qslurm hook` runs at the start and end of every job on C2, and `qslurm
submit` should start as fast as sbatch.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from qslurm import __version__
from qslurm.cli import streams
from qslurm.cli.output import note, print_error, print_json, wants_json
from qslurm.errors import InvalidInputError, QslurmError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

INTERRUPTED = 130
"""The exit code of a command ended by Ctrl-C, as shells have it (128 + SIGINT)."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""errno of a full disk, an exhausted quota, and a file at its size limit."""

OUT_OF_RESOURCES = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""errno if a limit of processes, files or memory (`ulimit`) is reached."""

COMPLETION = "_QSLURM_COMPLETE"
"""Environment variable that click's shell completion sets."""

COMMANDS: Mapping[str, tuple[str, str]] = {
    # name: (module, one line for the overview)
    "submit": ("submit", "Submit a circuit, a hybrid Python file or a batch script to C2."),
    "queue": ("queue", "List your center's jobs on C2."),
    "show": ("job_commands", "Show one job."),
    "wait": ("job_commands", "Wait for jobs to end; the exit code tells how they ended."),
    "cancel": ("cancel", "Cancel jobs."),
    "hold": ("job_commands", "Hold pending jobs."),
    "release": ("job_commands", "Release held jobs."),
    "info": ("info", "Show C2's backends and their queues."),
    "history": ("accounts", "List your center's ended jobs."),
    "usage": ("accounts", "Show the use of the backends by user and account."),
    "results": ("results", "Print a job's results."),
    "logs": ("results", "Print a job's output."),
    "session": ("session_command", "Run a program on this node while C2 holds a backend for it."),
    "run": ("run_command", "Run a circuit or a hybrid file on this machine, without Slurm."),
    "center": ("center_commands", "Write and check this center's configuration."),
    "agent": ("agent", "Run or inspect the center's agent, which holds the token and sends submissions."),
    "token": ("token", "Issue, install, check and renew a center's token."),
    "partition": ("operator_commands", "Enable, drain or close C2's quantum partitions."),
    "backend": ("operator_commands", "List or reserve backends, or take them out of service."),
    "dispatcher": ("services", "C2's task manager: serve, status."),
    "gate": ("services", "C2's gate: sets partition states from operators' settings and backend health."),
    "jobmanager": ("services", "C2's HTTP service for results and logs."),
    "runtimes": (
        "services",
        "C2's runtimes: warm classical ones on compute nodes, quantum ones on other hosts.",
    ),
    "doctor": ("doctor", "Check qslurm on this host, and print how to fix what fails."),
    "completion": ("manual", "Print a shell completion script."),
    "man": ("manual", "Show or install the manual pages."),
    "hook": ("hook", "Slurm's prolog and epilog hooks."),
    "step": ("hook", "Run a quantum job's classical part (called by the job script)."),
}

SECTIONS: Sequence[tuple[str, Sequence[str]]] = (
    (
        "Jobs",
        (
            "submit",
            "queue",
            "show",
            "wait",
            "cancel",
            "hold",
            "release",
            "results",
            "logs",
            "history",
            "usage",
            "info",
            "session",
            "run",
        ),
    ),
    (
        "Center admins and C2 operators",
        (
            "center",
            "agent",
            "token",
            "partition",
            "backend",
            "dispatcher",
            "gate",
            "jobmanager",
            "runtimes",
            "doctor",
        ),
    ),
    ("Shell", ("completion", "man")),
    ("Called by Slurm", ("hook", "step")),
)


EXTRAS: Mapping[str, str] = {
    "zmq": "run",
    "qxelarator": "run",
    "cryptography": "c2",
    "starlette": "c2",
    "uvicorn": "c2",
}
"""Optional modules, and the extra of qslurm that installs each."""


class LazyGroup(click.Group):
    """A group that imports its commands on first use, and lists them by section."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the overview."""
        return [name for _, names in SECTIONS for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and take the command from it."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"qslurm.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The matching names, without importing their commands."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        own = click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=COMMANDS[name][1]) for name in names] + own

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name in the error."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, n=1)
            meant = f" Did you mean `qslurm {near[0]}`?" if near else " See `qslurm --help`."
            raise click.UsageError(f"Unknown command {name!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview by section, without importing the commands."""
        for title, names in SECTIONS:
            with formatter.section(title):
                formatter.write_dl([(name, COMMANDS[name][1]) for name in names])


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 110},
    epilog="Example, in an sbatch script:  qslurm submit bell.cq --backend qx --wait",
)
@click.version_option(__version__, "-V", "--version", prog_name="qslurm", message="%(prog)s %(version)s")
def qslurm() -> None:
    """Submit quantum jobs from this Slurm cluster (C1) to the Slurm cluster of a quantum platform (C2)."""


def run(arguments: Sequence[str]) -> int:
    """Run `qslurm` with these arguments; the exit code.

    Every error ends as one sentence on stderr (with --json also as a document on stdout), never as a traceback.
    """
    return _after_flush(_run(arguments))


def _run(arguments: Sequence[str]) -> int:
    as_json = wants_json(arguments)
    try:
        result = _call(arguments)
    except click.exceptions.Exit as stopped:
        return stopped.exit_code
    except QslurmError as error:
        print_error(error, as_json=as_json)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as shown:
        streams.write(shown.ctx.get_help() if shown.ctx else str(shown))
        return 2
    except click.ClickException as error:
        _print_usage_error(error, as_json=as_json)
        return 2
    except (click.Abort, KeyboardInterrupt, EOFError):
        return INTERRUPTED
    except BrokenPipeError as error:
        if streams.is_unread():  # from click's help: the reader (head, less) has closed the pipe
            return 0
        return _report_bug(error, as_json=as_json)
    except ModuleNotFoundError as error:
        return _report_missing(error, as_json=as_json)
    except Exception as error:  # noqa: BLE001 # an unexpected error is reported as a sentence, too
        return _report_bug(error, as_json=as_json)
    return result if isinstance(result, int) else 0


def _call(arguments: Sequence[str]) -> object:
    """Like click's `main`, but leaves closed pipes and interrupts to us."""
    if COMPLETION in os.environ:  # shell completion
        return qslurm.main(args=list(arguments), prog_name="qslurm", standalone_mode=False)
    with qslurm.make_context("qslurm", list(arguments)) as context:
        return qslurm.invoke(context)


def _after_flush(code: int) -> int:
    """The exit code, after flushing the output.

    Lost output turns a success into a failure if it went to a full disk, but not if stdout is closed or a closed pipe.
    """
    streams.flush()
    lost = streams.take_lost()
    if lost is None or isinstance(lost, BrokenPipeError):
        return code
    if lost.errno == errno.EBADF:
        note("qslurm: Cannot write the output: stdout is closed.")
        return code
    full = _not_written(lost.strerror or str(lost))
    note(f"qslurm: {full}")
    return code or full.exit_code


def _not_written(why: str) -> QslurmError:
    return QslurmError(f"Cannot write the output: {why}.", hint="Check free space and quota of the disk.")


def _print_usage_error(error: click.ClickException, *, as_json: bool) -> None:
    message = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    if as_json:
        print_json({"error": {"code": 2, "type": "usage", "message": message, "hint": ""}})
    hint = f" Try `{context.command_path} --help`." if context and "--help" not in message else ""
    note(f"qslurm: {message}{hint}")


def _report_missing(error: ModuleNotFoundError, *, as_json: bool) -> int:
    extra = EXTRAS.get((error.name or "").partition(".")[0])
    if extra is None:
        return _report_bug(error, as_json=as_json)
    missing = InvalidInputError(
        f"The Python module {error.name} is not installed.", hint=f"Run pip install 'qslurm[{extra}]'."
    )
    print_error(missing, as_json=as_json)
    return missing.exit_code


def _report_bug(error: Exception, *, as_json: bool) -> int:
    if isinstance(error, OSError) and (why := _unwritten(error)):
        full = _not_written(why)
        print_error(full, as_json=False)
        return full.exit_code
    if os.environ.get("QSLURM_TRACEBACK"):
        raise error
    if isinstance(error, FileNotFoundError) and error.filename is None and _is_cwd_gone():
        gone = InvalidInputError(
            "The current directory no longer exists.", hint="Change to another directory."
        )
        print_error(gone, as_json=as_json)
        return gone.exit_code
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in OUT_OF_RESOURCES):
        from qslurm.system.child_process import low_limits

        why = getattr(error, "strerror", None) or "Cannot allocate memory"
        little = QslurmError(f"Out of system resources: {why}.", hint=low_limits())
        print_error(little, as_json=as_json)
        return little.exit_code
    wrapped = QslurmError(
        f"Unexpected error: {type(error).__name__}: {error}.",
        hint="Report it with the traceback that QSLURM_TRACEBACK=1 prints.",
    )
    print_error(wrapped, as_json=as_json)
    return wrapped.exit_code


def _is_cwd_gone() -> bool:
    """Whether the current directory has been removed."""
    from pathlib import Path

    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _unwritten(error: OSError) -> str:
    """Why the output cannot be written; "" if it can."""
    if error.errno in DISK_FULL:
        return os.strerror(error.errno)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as unwritten:
        return unwritten.strerror or str(unwritten)
    return ""
