"""Reads a job's file, and determines its kind."""

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
"""Kinds by suffix. A file with another suffix is a batch script if it begins with `#!`."""

NAMES: dict[FileKind, str] = {
    "circuit": "circuit.cq",
    "hybrid": "hybrid.py",
    "script": "script.sh",
    "payload": "payload.json",
}
"""File names, for messages and job names, of jobs that are given as text."""

_CIRCUIT = re.compile(r"(?>\s+|//[^\n]*|/\*.*?\*/|#(?!!)[^\n]*)*+(version|OPENQASM)\s+\d", re.DOTALL)

_PAYLOAD = re.compile(r'\s*(\{|"\w+"\s*:)')
"""A JSON object, possibly without its first brace; no Python file or circuit begins like this."""

LARGEST_FILE = 4 * 1024 * 1024
"""Bytes. Slurm's limit of a batch script, which contains the file (measured on 22.05 and 23.02)."""


def read_source(path: Path) -> str:
    """The text of a job's file; InvalidInputError if it is missing, unreadable, empty, too large or not text."""
    try:
        data = read_bounded(path, LARGEST_FILE)
    except OSError as error:
        raise InvalidInputError(
            f"Cannot read {path}: {(error.strerror or str(error)).lower()}.",
            hint="Check the file's name and permissions.",
        ) from error
    return text_of(data, str(path))


def read_stdin() -> str:
    """The text of a job on stdin; InvalidInputError as for a file."""
    if sys.stdin is None:
        raise InvalidInputError("Cannot read a job from stdin: it is closed.")
    return text_of(sys.stdin.buffer.read(LARGEST_FILE + 1), "stdin")


def text_of(data: bytes, path: str) -> str:
    """Decode a job's text; InvalidInputError, beginning with `path`, if it is empty, too large or not text."""
    if len(data) > LARGEST_FILE:
        raise InvalidInputError(
            f"{path} exceeds Slurm's limit of 4 MB.", hint="Move its data to a separate file."
        )
    if not data.strip():
        raise InvalidInputError(f"{path} is empty.")
    try:
        text = data.decode("utf-8-sig")  # Windows editors write a byte order mark
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    if "\0" in text:
        raise InvalidInputError(f"{path} contains a NUL character, which is not allowed in a batch script.")
    return text


def kind_of(path: Path, text: str) -> FileKind:
    """The kind of a file, by its suffix or its first line; InvalidInputError if unknown."""
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
    """Whether a text begins like a circuit: with the language's version, after comments."""
    return _CIRCUIT.match(text) is not None


def kind_of_text(text: str) -> FileKind:
    """The kind of a text without a file: a batch script, a payload, a circuit, else a hybrid file."""
    if text.startswith("#!"):
        return "script"
    if _PAYLOAD.match(text):
        return "payload"
    return "circuit" if is_circuit(text) else "hybrid"
