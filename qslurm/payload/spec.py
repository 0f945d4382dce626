"""What a job is, before a template makes a payload of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from qslurm.payload.comment import new_key
from qslurm.payload.envelope import Kind


class JobSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One job, as its user asked for it.

    `source` is the text of the file (cQASM, Python or a batch script, by `kind`), `file` its name for
    messages. `shots`, `seed` and `raw_data` are for circuits (None: the backend's default); `qpu_seconds` limits
    how long they may keep the backend busy in all. `partition` is p_<backend> unless said otherwise.
    `dependency` and `array` are as Slurm takes them, `begin_time` is a Unix time, `note` the user's own comment.
    `parameters` are values for names in the source, `sweep` is for an array whose tasks have values of their own.
    `sources` are the files of an array whose tasks have one each: name and text, by index, instead of `source`.
    `environment` is added to a clean one: nothing of the submitting machine's goes along by itself. `key`
    identifies the submission, `origin` says where it came from. `variables` are for the template. `session` and
    `idle_limit_s` are a session's (see Envelope).
    """

    kind: Kind
    source: str
    file: str = "job"
    name: str = ""
    backend: str = ""
    partition: str = ""
    shots: int | None = None
    seed: int | None = None
    raw_data: bool = False
    qpu_seconds: float | None = None
    time_limit_minutes: int | None = None
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    dependency: str | None = None
    array: str | None = None
    begin_time: int | None = None
    hold: bool = False
    note: str = ""
    parameters: Mapping[str, str] = {}
    sweep: str = ""
    sources: tuple[tuple[str, str], ...] = ()
    session: str = ""
    idle_limit_s: float | None = None
    workdir: str = "/tmp"  # noqa: S108 - on C2, where the center's user need not have a home
    environment: Mapping[str, str] = {}
    variables: Mapping[str, Any] = {}
    key: str = msgspec.field(default_factory=new_key)
    origin: str = ""

    @property
    def target(self) -> str:
        """The partition that the job is for; "" when neither a partition nor a backend was named."""
        return self.partition or (f"p_{self.backend}" if self.backend else "")
