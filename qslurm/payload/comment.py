"""The job's comment on C2: marks for hooks, operators and other tools.

Slurm allows 1024 bytes. The form is `qslurm key=… kind=… backend=… origin=… -- USER'S COMMENT`. Other words and unknown
names are ignored. Words are separated by ASCII white space; the first of two marks with the same name counts; an
invalid key is ignored. C2's submit plugin (deploy/c2/job_submit.lua.j2) reads keys in the same way.

Operators and other plugins overwrite comments. So C2's submit plugin copies the marks into the admin comment, and the
job's environment has them, too (`in_environment`). `marks_of` reads either.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from qslurm.errors import InvalidInputError

LIMIT = 1024
"""The maximum size of a comment in bytes (seen on 22.05)."""

NOTE_SEPARATOR = " -- "
"""Separates the marks from the user's comment."""

VARIABLE = "QSLURM_SUBMISSION"
"""Environment variable with a copy of the comment, for a C2 where another plugin overwrites it."""

_KEY = re.compile(r"[A-Za-z0-9_.:/@+,-]+")
_VALUE = re.compile(r"[A-Za-z0-9_.:/@+,%-]+")
_SPACE = " \t\n\v\f\r"
_WORD = re.compile(rf"[^{_SPACE}]+")


def new_key() -> str:
    """Generate a unique submission key: 32 hexadecimal digits."""
    return os.urandom(16).hex()


@dataclass(frozen=True)
class Comment:
    """The marks in a job's comment; "" if missing.

    `key` identifies the submission (Slurm reuses job ids), `origin` is where it came from, as
    `system:cluster:job_id:user` (see `Origin.format`), `sweep` the encoded sweep. `note` is the user's comment, on one
    line.
    """

    key: str = ""
    kind: str = ""
    backend: str = ""
    origin: str = ""
    sweep: str = ""
    note: str = ""

    def format(self) -> str:
        """Format the comment; InvalidInputError for values that cannot be parsed back."""
        words = ["qslurm"]
        for field in fields(self):
            value = getattr(self, field.name)
            if not value or field.name == "note":
                continue
            if not (_KEY if field.name == "key" else _VALUE).fullmatch(value):
                raise InvalidInputError(
                    f"The job's {field.name} {value!r} cannot be written into its comment."
                )
            words.append(f"{field.name}={value}")
        text = " ".join(words)
        if self.note:
            if not self.note.isprintable():
                raise InvalidInputError("The job's comment must be a single line of printable text.")
            text += NOTE_SEPARATOR + self.note
        if (size := len(text.encode(errors="surrogatepass"))) > LIMIT:
            room = f"; yours can have {LIMIT - size + len(self.note.encode())}" if self.note else ""
            if len(self.sweep) > len(self.note):
                most = max(0, LIMIT - size + len(self.sweep))
                raise InvalidInputError(
                    f"The sweep is {len(self.sweep)} characters long; the maximum is {most}, because it is kept in the "
                    "job's comment.",
                    hint="Use FROM:TO:STEP or FROM:TO/COUNT, or fewer values per job.",
                )
            raise InvalidInputError(
                f"The job's comment would be {size} bytes long; Slurm's limit is {LIMIT}{room}."
            )
        return text

    @classmethod
    def parse(cls, text: str) -> Comment:
        """Parse a comment; the marks of another comment are empty."""
        words, note = _split(text)
        pairs = [_pair(word) for word in _WORD.findall(words)]
        return cls(note=note, **{name: value for name, value in reversed(pairs) if name in _NAMES})


def marks_of(comment: str, admin_comment: str) -> Comment:
    """Parse a job's marks from its comment, or from C2's copy if the comment was overwritten. Then the comment is the
    note.
    """
    marks = Comment.parse(comment)
    if marks.key:
        return marks
    copy = Comment.parse(admin_comment)
    return replace(copy, note=comment) if copy.key else marks


def note_in(admin_comment: str) -> str:
    """The text of C2 or an operator in an admin comment, after the copy of the marks."""
    copy = Comment.parse(admin_comment)
    return copy.note if copy.key else admin_comment


def mark_words(text: str) -> str:
    """The marks in a comment or its copy, as text; "" without a key."""
    words, _ = _split(text)
    return words if Comment.parse(words).key else ""


def in_environment(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload with its comment copied into the job's environment, if it has a key."""
    job = payload["job"]
    words = " ".join(_WORD.findall(mark_words(str(job.get("comment", "")))))
    environment = job.get("environment")
    if not words:
        return dict(payload)
    if isinstance(environment, Mapping):
        return {**payload, "job": {**job, "environment": {**environment, VARIABLE: words}}}
    if isinstance(environment, list):
        return {**payload, "job": {**job, "environment": [*environment, f"{VARIABLE}={words}"]}}
    return dict(payload)


_ORIGIN = re.compile(rf"(?<![^{_SPACE}])origin=[^{_SPACE}]*")


def with_origin(text: str, origin: str) -> str:
    """Set the origin in a comment; InvalidInputError if it becomes too long."""
    text = text.strip(_SPACE)
    words, dashes, note = text.partition(NOTE_SEPARATOR) if text.startswith("qslurm ") else (text, "", "")
    word = f"origin={origin}"
    words = _ORIGIN.sub(lambda _: word, words, count=1) if _ORIGIN.search(words) else f"{words} {word}"
    changed = words + dashes + note
    if (size := len(changed.encode(errors="surrogatepass"))) > LIMIT:
        raise InvalidInputError(
            f"The job's comment, with its origin, is {size} bytes long; Slurm's limit is {LIMIT}."
        )
    return changed


def _pair(word: str) -> tuple[str, str]:
    """Split a mark into name and value; no name if it is not one."""
    name, _, value = word.partition("=")
    return (name, value) if value and (name != "key" or _KEY.fullmatch(value)) else ("", "")


def _split(text: str) -> tuple[str, str]:
    """Split a comment into marks and the user's text."""
    if not text.startswith("qslurm "):
        return text, ""
    words, _, note = text.partition(NOTE_SEPARATOR)
    return words, note


_NAMES = frozenset(field.name for field in fields(Comment)) - {"note"}
