"""The job's comment on C2: a few words that hooks, operators and other centers' tools can read.

Slurm allows 1024 bytes. The form is `qslurm key=… kind=… backend=… origin=… -- what the user wrote`; words that
are not `name=value`, and names this version does not know, are left alone, so that raw payloads may say what they
like. Of a name that stands twice the first counts, as for C2's submit plugin.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields

from qslurm.errors import InvalidInputError

LIMIT = 1024
"""Bytes slurmctld accepts in a comment (measured on 22.05)."""

BEFORE_NOTE = " -- "
"""Stands between our words and the user's."""

_VALUE = re.compile(r"[A-Za-z0-9_.:/@+,-]+")


def new_key() -> str:
    """A key that no other submission has: 32 hexadecimal digits."""
    return os.urandom(16).hex()


@dataclass(frozen=True)
class Comment:
    """What the comment of a qslurm job says; an empty string stands for "not said".

    `key` identifies the submission (job ids are reused by Slurm, keys are not), `origin` says where it came
    from, as `system:cluster:job_id:user`, `sweep` what its tasks' values are. `note` is the
    user's own comment, on one line.
    """

    key: str = ""
    kind: str = ""
    backend: str = ""
    origin: str = ""
    sweep: str = ""
    note: str = ""

    def format(self) -> str:
        """The comment's text; a value that could be read as two words is an InvalidInputError."""
        words = ["qslurm"]
        for field in fields(self):
            value = getattr(self, field.name)
            if not value or field.name == "note":
                continue
            if not _VALUE.fullmatch(value):
                raise InvalidInputError(
                    f"The job's {field.name} {value!r} can't be written into its comment."
                )
            words.append(f"{field.name}={value}")
        text = " ".join(words)
        if self.note:
            if not self.note.isprintable():
                raise InvalidInputError("The job's comment must be one line of text that can be printed.")
            text += BEFORE_NOTE + self.note
        if (size := len(text.encode(errors="surrogatepass"))) > LIMIT:
            room = f"; yours may be {LIMIT - size + len(self.note.encode())}" if self.note else ""
            raise InvalidInputError(
                f"The job's comment would be {size} bytes long; Slurm takes {LIMIT}{room}."
            )
        return text

    @classmethod
    def parse(cls, text: str) -> Comment:
        """What a comment says; a comment that says nothing of ours gives an empty one."""
        words, note = _divided(text)
        pairs = [word.split("=", 1) for word in words.split() if "=" in word]
        return cls(note=note, **{name: value for name, value in reversed(pairs) if name in _NAMES})


_ORIGIN = re.compile(r"(?<!\S)origin=\S*")


def with_origin(text: str, origin: str) -> str:
    """A comment with this origin, whatever it said or did not say of one; InvalidInputError if it gets too long."""
    text = text.strip()
    words, dashes, note = text.partition(BEFORE_NOTE) if text.startswith("qslurm ") else (text, "", "")
    word = f"origin={origin}"
    words = _ORIGIN.sub(lambda _: word, words, count=1) if _ORIGIN.search(words) else f"{words} {word}"
    changed = words + dashes + note
    if (size := len(changed.encode(errors="surrogatepass"))) > LIMIT:
        raise InvalidInputError(
            f"The job's comment, with its origin, is {size} bytes long; Slurm takes {LIMIT}."
        )
    return changed


def value_in(text: str, name: str) -> str:
    """One value that a comment says, as `Comment.parse` would find it, for lists of thousands; "" for none."""
    begin = f"{name}="
    for word in _divided(text)[0].split():
        if word.startswith(begin):
            return word[len(begin) :]
    return ""


def _divided(text: str) -> tuple[str, str]:
    """Our words, and the user's."""
    if not text.startswith("qslurm "):
        return text, ""
    words, _, note = text.partition(BEFORE_NOTE)
    return words, note


_NAMES = frozenset(field.name for field in fields(Comment)) - {"note"}
