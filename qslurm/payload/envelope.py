"""The envelope: a quantum job's data, and its encoding in a batch script.

The payload of slurmrestd has room for one thing only, the batch script (at most 4 MB). So the job's own
data travels there: after the line that hands over to C2's job step, behind a marker, as one line of JSON
that no shell ever reads.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from qslurm.errors import InvalidInputError

Kind = Literal["circuit", "hybrid", "script", "session"]

Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""The bound keeps a number within what every part on the way can carry: without it, one that MessagePack can't
hold would send its job back to the queue for ever.
"""

Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]

Digest = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]

MARKER = "#QSLURM-DATA "
"""Prefix of the envelope's line; the last such line of a script counts."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One task's file in an array with a file per task: its name and text."""

    file: str
    source: str


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The data of a circuit job, a hybrid job or a session.

    `source` is the text of the file (cQASM or Python), `file` its name for messages, `shots` the number of
    shots of a circuit job (None: the backend's default), `seed` makes an emulator repeat itself. `qpu_seconds` is
    how long its circuits may keep the backend busy in all (None: as long as the backend allows). `parameters` are
    values that its user gave to names; `sweep` gives each task of an array values of its own, in place of
    `{{ name }}` in a circuit. `sources` gives each task, by its index, a file of its own instead of the one.
    A session has no source: `session` is the SHA-256 (hexadecimal) of the secret that its
    client comes with, `idle_limit_s` how long nothing may be asked of it.
    """

    kind: Literal["circuit", "hybrid", "session"]
    source: str
    file: str = "job"
    shots: Number | None = None
    seed: Number | None = None
    raw_data: bool = False
    qpu_seconds: Seconds | None = None
    parameters: dict[str, str] = {}
    sweep: str = ""
    sources: list[Source] = []
    session: Digest = ""
    idle_limit_s: Seconds | None = None
    version: Literal[1] = 1

    def of_task(self, index: int | None) -> Envelope:
        """The data of one array task (None: a single job), with its sweep's values.

        InvalidInputError if the sweep, or the list of files, has nothing for it.
        """
        if self.sources:
            if index is None or index >= len(self.sources):
                raise InvalidInputError(f"The job has {len(self.sources)} files, but none for task {index}.")
            one = self.sources[index]
            return msgspec.structs.replace(self, file=one.file, source=one.source, sources=[])
        if not self.sweep:
            return self
        if index is None:
            raise InvalidInputError("The job has a sweep, but is not an array task.")
        from qslurm.payload.sweep import filled, read_sweep

        values = read_sweep(self.sweep).at(index)
        source = filled(self.source, values) if self.kind == "circuit" else self.source
        return msgspec.structs.replace(
            self, source=source, parameters={**self.parameters, **values}, sweep=""
        )


def pack(envelope: Envelope) -> str:
    """Encode the envelope as a line of a batch script, without a newline.

    InvalidInputError for one that C2 would not read: a number out of bounds, what is no Unicode text.
    """
    try:
        line = msgspec.json.encode(envelope)
        msgspec.json.decode(line, type=Envelope)
    except (msgspec.MsgspecError, UnicodeError, OverflowError) as error:
        raise InvalidInputError(f"Cannot encode the job's data: {error}.") from error
    return MARKER + line.decode()


def unpack(script: str) -> Envelope | None:
    """The envelope a batch script carries, or None for a plain script; an unreadable one is
    InvalidInputError.
    """
    position = script.rfind("\n" + MARKER)
    if position < 0:
        return None
    line = script[position + 1 + len(MARKER) :].split("\n", 1)[0]
    try:
        return msgspec.json.decode(line.encode(), type=Envelope)
    except msgspec.DecodeError as error:
        raise InvalidInputError(
            f"Cannot read the job's data: {error}.",
            hint="Submit the file again with this version of qslurm.",
        ) from error
