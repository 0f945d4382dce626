"""The job's comment on C2: a few words that hooks, operators and other centers' tools can read.

Slurm allows 1024 characters. The form is `qslurm key=… kind=… backend=… origin=…`; words that are not
`name=value`, and names this version does not know, are left alone, so that raw payloads may say what they
like.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, fields

from qslurm.errors import InvalidInputError

LIMIT = 1024
"""Characters slurmctld accepts in a comment (measured: SLURM, "Limits")."""

_VALUE = re.compile(r"[A-Za-z0-9_.:/@+,-]+")


def new_key() -> str:
    """A key that no other submission has: 32 hexadecimal digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Comment:
    """What the comment of a qslurm job says; an empty string stands for "not said".

    `key` identifies the submission (job ids are reused by Slurm, keys are not), `origin` says where it came
    from, as `system:cluster:job_id:user`.
    """

    key: str = ""
    kind: str = ""
    backend: str = ""
    origin: str = ""

    def format(self) -> str:
        """The comment's text; a value that could be read as two words is an InvalidInputError."""
        words = ["qslurm"]
        for field in fields(self):
            value = getattr(self, field.name)
            if not value:
                continue
            if not _VALUE.fullmatch(value):
                raise InvalidInputError(
                    f"The job's {field.name} {value!r} can't be written into its comment."
                )
            words.append(f"{field.name}={value}")
        text = " ".join(words)
        if len(text) > LIMIT:
            raise InvalidInputError(
                f"The job's comment would be {len(text)} characters long; Slurm takes {LIMIT}."
            )
        return text

    @classmethod
    def parse(cls, text: str) -> Comment:
        """What a comment says; a comment that says nothing of ours gives an empty one."""
        known = {field.name for field in fields(cls)}
        pairs = (word.split("=", 1) for word in text.split() if "=" in word)
        return cls(**{name: value for name, value in pairs if name in known})
