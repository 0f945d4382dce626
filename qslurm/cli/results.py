"""`qslurm results` and `qslurm logs`: a job's results and output."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qslurm.cli import streams
from qslurm.cli.output import bars, note, print_json, print_table
from qslurm.cli.shared_options import CenterFlags, center_options, job_argument, json_option
from qslurm.errors import InvalidInputError, QslurmError

if TYPE_CHECKING:
    from qslurm.c1.queries.job_ids import JobRef

TOP = 4
"""Outcomes of a task that the table of an array shows, the most frequent first."""


@click.command()
@job_argument
@click.option("--csv", "as_csv", is_flag=True, help="Print as CSV.")
@click.option(
    "--plot",
    metavar="FILE",
    help="Plot to FILE (.svg, or .png with qslurm[plot]); `-` plots in the terminal.",
)
@click.option(
    "--trace", metavar="NAME", help="With --plot: the list of numbers in a hybrid job's final result to plot."
)
@json_option
@center_options
def results(
    *, job: JobRef, as_csv: bool, plot: str | None, trace: str | None, as_json: bool, center: CenterFlags
) -> None:
    """Print the results of job JOBID: a circuit's counts, or a hybrid job's final result.

    For an array (12), prints each task's results with its parameters; for a task (12_3), its own. A job that did not
    complete has no results: the exit code is that of `qslurm wait`, or 3 if the job has not ended.

    \b
    Examples:
      qslurm results 12
      qslurm results 12 --json | jq .counts
      qslurm results 12 --csv > sweep.csv
      qslurm results 12 --plot sweep.svg
    """
    if (as_csv, as_json).count(True) > 1:
        raise click.UsageError("--csv and --json are mutually exclusive.")
    if trace and not plot:
        raise click.UsageError("--trace requires --plot.")
    target = _target(plot)
    from qslurm.c1.queries.fetching import results as results_of

    document = results_of(*center.of(job))
    if plot is not None:
        from qslurm.plots.chart import chart_of

        _draw(chart_of(document, trace), target)
    if as_json:
        print_json(document)
    elif as_csv:
        from qslurm.plots.rows import as_csv as rows

        streams.write(rows(document), nl=False)
    elif plot is None:
        print_results(document)
    _exit_if_incomplete(document)


def _exit_if_incomplete(document: Mapping[str, Any]) -> None:
    """Exit with the worst code of the tasks that have no results."""
    from qslurm.cli.wait_many import WORST

    errors = [task["error"] for task in document.get("tasks", ()) if "error" in task]
    if not errors:
        return
    note(
        f"qslurm: {len(errors)} of {len(document['tasks'])} tasks have no results. The first: {errors[0]['message']}"
    )
    codes = {error["code"] for error in errors}
    ranked = [kind.exit_code for kind in WORST if kind.exit_code in codes]
    raise click.exceptions.Exit(ranked[0] if ranked else max(codes))


def _target(plot: str | None) -> Path | None:
    """The file to plot to; a usage error if it cannot be one, before C2 is queried."""
    if plot in (None, "-"):
        return None
    path = Path(str(plot))
    if path.suffix.lower() not in (".svg", ".png"):
        raise click.BadParameter(
            f"Unsupported file {str(path)!r}. Use FILE.svg, FILE.png or -.", param_hint="--plot"
        )
    if not os.access(path.parent, os.X_OK):
        raise click.BadParameter(f"The directory {str(path.parent)!r} does not exist.", param_hint="--plot")
    return path


def _draw(chart: Any, path: Path | None) -> None:
    from qslurm.plots.svg import as_svg

    if path is None:
        streams.write("\n".join(in_terminal(chart)))
        return
    try:
        if path.suffix.lower() == ".png":
            from qslurm.plots.png import write_png

            write_png(chart, path)
        else:
            path.write_text(as_svg(chart), encoding="utf-8")
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"PNG plots need the Python module {error.name}, which is not installed.",
            hint="Run pip install 'qslurm[plot]', or use a .svg file.",
        ) from error
    except OSError as error:
        raise QslurmError(f"Cannot write {path}: {error.strerror}.") from error
    note(f"Wrote {path}.")


def in_terminal(chart: Any) -> list[str]:
    """A chart as lines of text: bars for counts, a row of block letters for each line."""
    from qslurm.plots.chart import Bars
    from qslurm.plots.svg import shown

    if isinstance(chart, Bars):
        return [chart.title, *bars(chart.counts, chart.shots)]
    width = max(len(name) for name in chart.lines)
    found = [f"{chart.x_label} {min(chart.x):g} to {max(chart.x):g}"]
    for name, line in chart.lines.items():
        found.append(
            f"{name.rjust(width)} {shown(line)}  {min(line):.6g} to {max(line):.6g}, last {line[-1]:.6g}"
        )
    return found


@click.command()
@job_argument
@click.option("--follow", "-f", is_flag=True, help="Keep printing until the job ends.")
@json_option
@center_options
def logs(job: JobRef, follow: bool, as_json: bool, center: CenterFlags) -> None:
    """Print the output of job JOBID so far.

    \b
    Examples:
      qslurm logs 12
      qslurm logs -f 12_3
    """
    import time

    from qslurm.c1.connection.job_manager import log_pieces
    from qslurm.c1.queries.fetching import follow_log, log_id

    if follow and as_json:
        raise click.UsageError("--follow and --json are mutually exclusive.")
    connection, job = center.of(job)

    def write(piece: bytes) -> None:
        if not streams.write(piece, nl=False):
            raise click.exceptions.Exit(0)  # the reader has closed the pipe

    if follow:
        follow_log(connection, job, write, time.sleep, lambda message: note(f"qslurm: {message}"))
        return
    pieces = log_pieces(connection.job_manager, log_id(connection, job))
    if as_json:
        print_json({"job_id": job.job_id, "log": b"".join(pieces).decode(errors="replace")})
        return
    for piece in pieces:
        write(piece)


def print_results(document: Mapping[str, Any]) -> None:
    """Print a job's results: bars for counts, indented JSON for a final result, a row for each task."""
    import msgspec

    if "tasks" in document:
        _print_tasks(document)
    elif document["kind"] == "circuit":
        counts = document.get("counts") or {}
        streams.write("\n".join(bars(counts, sum(counts.values()))) or "no counts")
        note(f"{document.get('shots') or 0} shots")
    elif document["kind"] in {"hybrid", "session"}:
        final_result = document.get("final_result")
        if final_result is not None or document["kind"] == "hybrid":  # optional for a session
            streams.write(msgspec.json.format(msgspec.json.encode(final_result)).decode())
        note(f"{document.get('executions') or 0} executions")
    else:
        note("A batch script has no results; `qslurm logs` prints its output.")
    for remark in document.get("remarks") or filter(None, [document.get("reason")]):
        note(str(remark))


def _print_tasks(document: Mapping[str, Any]) -> None:
    tasks = document["tasks"]
    names = list(dict.fromkeys(name for task in tasks for name in task["parameters"]))
    print_table(
        ("JOBID", *names, "STATE", "RESULT"),
        [
            (task["id"], *(task["parameters"].get(name) for name in names), task["state"], _in_short(task))
            for task in tasks
        ],
    )


def _in_short(task: Mapping[str, Any]) -> str:
    if "error" in task:
        return str(task["error"]["message"])
    if task["kind"] == "circuit":
        counts = Counter(task.get("counts") or {})
        left = f" and {len(counts) - TOP} more" if len(counts) > TOP else ""
        return "  ".join(f"{bits}: {count}" for bits, count in counts.most_common(TOP)) + left
    result = task.get("final_result") or {}
    return "  ".join(
        f"{name}: {value}" for name, value in result.items() if not isinstance(value, list | dict)
    )
