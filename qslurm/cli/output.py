"""Output of commands: tables, JSON, errors, bars, and a progress line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qslurm.cli import streams
from qslurm.cli.streams import note as note  # noqa: PLC0414 - exported from here as well
from qslurm.system.encoding_errors import without_surrogates

if TYPE_CHECKING:
    from qslurm.errors import QslurmError
    from qslurm.slurm.job_info import JobInfo

BAR_WIDTH = 40
"""Characters of the longest bar."""

NAME_WIDTH = 32
"""Characters of a job's name in a list; `qslurm show` and --json have the whole name."""


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether --json is among the arguments, before a lone `--`."""
    options = list(arguments)
    if "--" in options:
        options = options[: options.index("--")]
    return "--json" in options


def print_json(document: object) -> bool:
    """One JSON document on one line of stdout, in UTF-8 whatever the locale; False if it can't be written."""
    import msgspec

    try:
        encoded = msgspec.json.encode(document)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_as_text(msgspec.to_builtins(document)))
    return streams.write(encoded)


def _as_text(document: Any) -> Any:
    """The document with lone surrogates (from file names that are not UTF-8) replaced."""
    if isinstance(document, str):
        return without_surrogates(document)
    if isinstance(document, dict):
        return {_as_text(name): _as_text(value) for name, value in document.items()}
    return [_as_text(one) for one in document] if isinstance(document, list) else document


def print_error(error: QslurmError, *, as_json: bool) -> None:
    """The error's sentence and hint on stderr; with --json its document on stdout as well."""
    if as_json:
        print_json({"error": error_document(error)})
    note(f"qslurm: {error}")


def error_document(error: QslurmError) -> dict[str, Any]:
    """An error's JSON document: `code` is the exit code, `type` the error's name."""
    return {"code": error.exit_code, "type": error.kind, "message": error.message, "hint": error.hint}


def job_document(job: JobInfo, prefix: str = "") -> dict[str, Any]:
    """A job's JSON document: Slurm's fields, and those of its comment. `prefix` is its platform's."""
    from qslurm.slurm.job_info import facts_of

    marks = job.marks
    return {
        **facts_of(job),
        "id": f"{prefix}{job.shown_id}",
        "backend": marks.backend,
        "kind": marks.kind,
        "origin": marks.origin,
        "key": marks.key,
        "note": marks.note,
    }


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Left-aligned columns as squeue prints them; the last column is never padded."""
    lines = [header, *(["" if cell is None else str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    row = "  ".join([*(f"{{:{width}}}" for width in widths[:-1]), "{}"])
    streams.write("\n".join([plain(row.format(*line)).rstrip() for line in lines]))


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values, one pair a line; empty values are left out."""
    shown = {name: value for name, value in facts.items() if value not in (None, "")}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        streams.write(f"{name.rjust(width)}  {plain(value)}")


def plain(value: object) -> str:
    """A value without terminal control characters: a job's name comes from another user."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def short_name(name: str) -> str:
    """A job's name, shortened to the width of its column."""
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"


def bars(counts: Mapping[str, int], shots: int) -> list[str]:
    """Counts as lines of text: the bit string, a bar, the count, its share of all `shots`."""
    if not counts:
        return []
    most = max(counts.values())
    digits = len(str(most))
    key_width = max(len(key) for key in counts)
    beside = key_width + digits + len("    100.0%")
    width = min(BAR_WIDTH, max(1, (streams.terminal_columns() or 1000) - beside))
    return [
        f"{key.rjust(key_width)} {_bar(count / most * width).ljust(width)} {count:>{digits}}  {count / shots:6.1%}"
        for key, count in sorted(counts.items())
    ]


def _bar(length: float) -> str:
    eighths = round(length * 8)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


class ProgressLine:
    """One line on a terminal's stderr that is rewritten in place; no output into a pipe."""

    def __init__(self) -> None:
        self._shown = streams.can_rewrite_lines()
        self._dirty = False

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def show(self, text: str) -> None:
        """Replace the line."""
        if not self._shown:
            return
        import shutil

        room = shutil.get_terminal_size().columns - 1
        note(f"\r\033[K{plain(text)[:room]}", nl=False)
        self._dirty = True

    def clear(self) -> None:
        """Erase the line."""
        if self._dirty:
            note("\r\033[K", nl=False)
            self._dirty = False
