"""From the file a user names to what kind of job it is."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Literal

from qslurm.errors import InvalidInputError
from qslurm.system.bounded_read import read_bounded

FileKind = Literal["circuit", "hybrid", "script", "payload"]

SUFFIXES: dict[str, FileKind] = {
    ".cq": "circuit",
    ".cqasm": "circuit",
    ".qasm": "circuit",
    ".py": "hybrid",
    ".sh": "script",
    ".bash": "script",
    ".sbatch": "script",
    ".slurm": "script",
    ".json": "payload",
}
"""What a file's ending says; a file without one of these is a batch script if it begins with `#!`."""

NAMES: dict[FileKind, str] = {
    "circuit": "circuit.cq",
    "hybrid": "hybrid.py",
    "script": "script.sh",
    "payload": "payload.json",
}
"""What a job that is given as a text is called, in messages and as its name."""

_CIRCUIT = re.compile(r"(?>\s+|//[^\n]*|/\*.*?\*/|#(?!!)[^\n]*)*+(version|OPENQASM)\s+\d", re.DOTALL)

_PAYLOAD = re.compile(r'\s*(\{|"\w+"\s*:)')
"""A JSON object, maybe without its first brace, as the paper prints one; no Python file and no circuit begins so."""

LARGEST_FILE = 4 * 1024 * 1024
"""Bytes; Slurm takes no larger batch script, and every file travels in one (measured on 22.05 and 23.02)."""


def read_source(path: Path) -> str:
    """The text of a job's file; InvalidInputError if it is missing, unreadable, empty, too large or not text."""
    try:
        data = read_bounded(path, LARGEST_FILE)
    except OSError as error:
        raise InvalidInputError(
            f"{path} can't be read: {(error.strerror or str(error)).lower()}.",
            hint="Check the file's name and permissions.",
        ) from error
    return text_of(data, str(path))


def read_stdin() -> str:
    """The text of a job that comes on stdin; InvalidInputError as for a file."""
    if sys.stdin is None:
        raise InvalidInputError("Cannot read a job from stdin: it is closed.")
    return text_of(sys.stdin.buffer.read(LARGEST_FILE + 1), "stdin")


def text_of(data: bytes, path: str) -> str:
    """The text in a job's bytes; InvalidInputError, which begins with the name they have, if there is none."""
    if len(data) > LARGEST_FILE:
        raise InvalidInputError(
            f"{path} exceeds Slurm's limit of 4 MB.", hint="Move its data to a separate file."
        )
    if not data.strip():
        raise InvalidInputError(f"{path} is empty.")
    try:
        text = data.decode("utf-8-sig")  # editors on Windows write a mark (BOM) first
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    if "\0" in text:
        raise InvalidInputError(f"{path} contains a NUL character, which is not allowed in a batch script.")
    return text


def kind_of(path: Path, text: str) -> FileKind:
    """What kind of job a file is, by its ending or its first line; InvalidInputError if neither says."""
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is not None:
        return kind
    if text.startswith("#!"):
        return "script"
    raise InvalidInputError(
        f"Unknown kind of job: {path}.",
        hint="Use the suffix .cq or .qasm (circuit), .py (hybrid), .sh (batch script) or .json (raw payload).",
    )


def is_circuit(text: str) -> bool:
    """Whether a text begins as a circuit does: with the version of its language, after comments."""
    return _CIRCUIT.match(text) is not None


def kind_of_text(text: str) -> FileKind:
    """What kind of job a text without a file is: a batch script, a payload, a circuit, else a hybrid file."""
    if text.startswith("#!"):
        return "script"
    if _PAYLOAD.match(text):
        return "payload"
    return "circuit" if is_circuit(text) else "hybrid"
