"""What a program hands to `Center`, looked at before anything is made of it: an option of the wrong kind is named."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qslurm.errors import InvalidInputError

if TYPE_CHECKING:
    from qslurm.c1.submission.options import Request

TEXTS = frozenset(
    {
        *(
            "backend",
            "partition",
            "name",
            "time_limit",
            "account",
            "qos",
            "reservation",
            "dependency",
            "array",
        ),
        *("begin", "comment", "export", "template"),
    }
)
YES_OR_NO = frozenset({"raw_data", "hold"})
LEAST = {"shots": 1, "qubits": 1, "seed": 0, "buffersize": 1}
SECONDS = frozenset({"qpu_seconds", "idle_limit_s", "wait_limit_s"})
TABLES = frozenset({"sweep", "variables"})
ENDINGS = ("ok", "any", "failed")


def check_options(options: Mapping[str, object]) -> None:
    """InvalidInputError for an option that can't be what its name says; None is an option that was not given."""
    for name, value in options.items():
        if value is not None and (wanted := _instead_of(name, value)):
            raise InvalidInputError(f"{name} is {value!r:.60}; it must be {wanted}.")


def _instead_of(name: str, value: object) -> str:
    """What an option must be, in words, if it is something else."""
    number = isinstance(value, int) and not isinstance(value, bool)
    if name in TEXTS:
        return "" if isinstance(value, str) else "a text, written as for the command"
    if name in YES_OR_NO:
        return "" if isinstance(value, bool) else "True or False"
    if name in LEAST:
        good = isinstance(value, int) and number and value >= LEAST[name]
        return "" if good else f"a whole number, {LEAST[name]} or more"
    if name in SECONDS:
        good = (number or isinstance(value, float)) and 0 < float(value) < math.inf  # type: ignore[arg-type]
        return "" if good else "a number of seconds, more than 0"
    if name in TABLES:
        return "" if isinstance(value, Mapping) else "a dict of names and their values"
    if name == "then_if":
        return "" if value in ENDINGS else f"one of {', '.join(ENDINGS)}"
    return ""


def text_or_file(source: object) -> tuple[str | None, Path | None]:
    """A job's text, or its file: a string with a line break, or that begins as a circuit does, is a text."""
    from qslurm.c1.submission.job_files import is_circuit

    if isinstance(source, str) and ("\n" in source or is_circuit(source)):
        return source, None
    path = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    if not isinstance(path, str):
        raise InvalidInputError(
            f"A job is a file's name, or the text of one, and not {type(source).__name__}.",
            hint="bytes are a text after .decode().",
        )
    if not path:
        raise InvalidInputError("The job's file has no name, or its text is empty.")
    return None, Path(path)


def swept(values: object) -> str:
    """The values of a sweep as the command takes them."""
    if isinstance(values, str):
        return values
    if not isinstance(values, Iterable):
        raise InvalidInputError(
            f"A sweep's values are a list, or a text such as '0:3.14:0.1', and not {values!r:.60}."
        )
    return ",".join(str(value) for value in values)


def request_of(source: object, options: Mapping[str, Any]) -> Request:
    """What is asked for by `submit` with these options; with what the job says of itself."""
    from qslurm.c1.submission.options import Request, settle

    check_options(options)
    text, file = text_or_file(source)
    rest = {
        name: value
        for name, value in options.items()
        if name not in {*TABLES, "then", "then_if"} and value is not None
    }
    sweep, variables = options.get("sweep") or {}, options.get("variables") or {}
    return settle(
        Request(
            file=file,
            text=text,
            sweep=tuple(f"{name}={swept(values)}" for name, values in sweep.items()),
            variables={name: str(value) for name, value in variables.items()},
            **rest,
        )
    )
