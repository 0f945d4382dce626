"""The envelope: a quantum job's data, and its encoding in a batch script.

A payload can carry data only in the batch script (at most 4 MB). So the envelope is its last line: JSON, after a
marker. No shell reads it, because an earlier line starts C2's job step.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from qslurm.errors import InvalidInputError

Kind = Literal["circuit", "hybrid", "script", "session"]

Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""Within what JSON and MessagePack can represent: a job with a larger number would be requeued for ever."""

Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]

Digest = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]

MARKER = "#QSLURM-DATA "
"""The prefix of the envelope's line. The last such line of a script counts."""


class SourceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task's file, in an array with a file per task: its name and text."""

    file: str
    source: str


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The data of a circuit job, a hybrid job or a session.

    `source` is the text of the file (cQASM or Python), `file` its name for messages. `shots` are those of a circuit job
    (None: the backend's default), `seed` is an emulator's, `qpu_seconds` the backend time that the job may use (None:
    the backend's limit). `parameters` are the user's values by name; `sweep` gives each array task values of its own,
    for `{{ name }}` in a circuit. `sources` has a file for each task, by index, instead of `source`. A session has no
    source: `session` is the SHA-256 (hexadecimal) of its client's secret, `idle_limit_s` its limit without requests.
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
    sources: list[SourceFile] = []
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

    InvalidInputError if C2 could not read it: for numbers out of bounds and invalid Unicode.
    """
    try:
        line = msgspec.json.encode(envelope)
        msgspec.json.decode(line, type=Envelope)
    except (msgspec.MsgspecError, UnicodeError, OverflowError) as error:
        raise InvalidInputError(f"Cannot encode the job's data: {error}.") from error
    return MARKER + line.decode()


def unpack(script: str) -> Envelope | None:
    """The envelope in a batch script; None if there is none, InvalidInputError if it is invalid."""
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
