"""The description of a job, with the declaration of each of its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from qslurm.payload.comment import new_key
from qslurm.payload.option import JOB, JOB_AND_SESSION, Declared, Option, Place, options_of
from qslurm.system.encoding_errors import without_surrogates

JobKind = Literal["circuit", "hybrid", "script", "session", "payload"]


class JobSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A job, from the command line to the payload.

    At first it has a `file` or its text (`source`), and options as the user gave them. Reading the file sets `kind` and
    `source`, and the options of its `#QSLURM` lines. Then the configuration sets the missing options, and what
    templates need is added: `parameters`, `environment`, `key`, `origin`.
    """

    # the job itself
    file: Path | None = None
    source: str | None = None
    """The text of the file: cQASM, Python, a batch script, or JSON."""
    kind: JobKind | None = None
    """None: the file has not been read yet."""

    # its options
    template: Annotated[
        str | None, Option("Render this payload template instead of the file kind's own.")
    ] = None
    variables: Annotated[
        Mapping[str, Any],
        Option(
            "Value of {{ NAME }} in a circuit, of qi.parameters, or of a template variable; may be repeated.",
            name="set",
            metavar="NAME=VALUE",
            places=(*JOB, "session"),
        ),
    ] = {}
    platform: Annotated[str | None, Option("The platform.", short="M", places=("file",))] = None
    backend: Annotated[
        str | None,
        Option(
            "Quantum backend, for example qx; any: the first free one that fits.",
            short="b",
            places=JOB_AND_SESSION,
        ),
    ] = None
    qubits: Annotated[
        int | None,
        Option(
            "Qubits needed, for --backend any.",
            metavar="N",
            default="the circuit's",
            least=1,
            places=JOB_AND_SESSION,
        ),
    ] = None
    partition: Annotated[
        str | None,
        Option(
            "C2's partition.", short="p", default="p_<backend>", slurm="partition", places=JOB_AND_SESSION
        ),
    ] = None
    name: Annotated[
        str | None,
        Option(
            "The job's name.",
            name="job-name",
            short="J",
            default="the file's name",
            slurm="name",
            places=JOB_AND_SESSION,
        ),
    ] = None
    shots: Annotated[
        int | None,
        Option(
            "Number of shots of a circuit.",
            short="s",
            metavar="N",
            default="the backend's",
            least=1,
            places=(*JOB, "session"),
        ),
    ] = None
    seed: Annotated[
        int | None,
        Option("Seed of an emulator, for reproducible results.", metavar="N", places=JOB_AND_SESSION),
    ] = None
    raw_data: Annotated[bool, Option("Keep each shot's bits, not only their counts.")] = False
    time_limit: Annotated[
        str | None,
        Option(
            "Time limit, as for sbatch.",
            name="time",
            short="t",
            metavar="LIMIT",
            slurm="time_limit",
            places=JOB_AND_SESSION,
        ),
    ] = None
    qpu_seconds: Annotated[
        float | None,
        Option(
            "End the job when its circuits have used this much backend time.",
            metavar="SECONDS",
            default="the backend's",
            places=JOB_AND_SESSION,
        ),
    ] = None
    account: Annotated[
        str | None, Option("The account on C2.", short="A", slurm="account", places=JOB_AND_SESSION)
    ] = None
    qos: Annotated[
        str | None, Option("The quality of service on C2.", short="q", slurm="qos", places=JOB_AND_SESSION)
    ] = None
    reservation: Annotated[
        str | None, Option("The reservation on C2.", slurm="reservation", places=JOB_AND_SESSION)
    ] = None
    dependency: Annotated[
        str | None,
        Option(
            "Start after other jobs on C2, as for sbatch, for example afterok:12.",
            short="d",
            metavar="LIST",
            slurm="dependency",
            decides_start=True,
        ),
    ] = None
    array: Annotated[
        str | None,
        Option(
            "Submit an array with these indexes, for example 0-9 or 0-99%4.",
            short="a",
            metavar="INDEXES",
            slurm="array",
            decides_start=True,
        ),
    ] = None
    sweep: Annotated[
        tuple[str, ...],
        Option(
            "Submit a task for each value of {{ NAME }}: FROM:TO:STEP, FROM:TO/COUNT or a list; several make a grid.",
            metavar="NAME=VALUES",
            slurm="array",
            decides_start=True,
        ),
    ] = ()
    begin: Annotated[
        str | None,
        Option(
            "Start no earlier than this time, for example 16:00, now+1hour or 2026-11-22T16:00.",
            metavar="TIME",
            slurm="begin_time",
            decides_start=True,
        ),
    ] = None
    hold: Annotated[
        bool,
        Option("Hold the job until `qslurm release`.", short="H", slurm="hold", decides_start=True),
    ] = False
    comment: Annotated[
        str | None, Option("Comment, shown with the job.", metavar="TEXT", may_be_empty=True)
    ] = None
    export: Annotated[
        str | None,
        Option(
            "Variables to export to the job: comma-separated NAME or NAME=VALUE.",
            metavar="NAMES",
            default="none",
            may_be_empty=True,
        ),
    ] = None

    # set on the way to the payload
    skip: int = 0
    """In a part of a sweep: the number of tasks in the parts before it."""
    tasks: int | None = None
    """In a part of a sweep: its number of tasks."""
    indices: str = ""
    """The task indexes of an array or sweep, in Slurm's syntax."""
    sweep_text: str = ""
    """The encoded sweep; see qslurm.payload.sweep."""
    parameters: Mapping[str, str] = {}
    """Those variables that are names in the source."""
    environment: Mapping[str, str] = {}
    """Added to a clean environment; no other variable of the submitting host is sent."""
    sources: tuple[tuple[str, str], ...] = ()
    """Name and text of each task's file, by index, in an array with a file per task; instead of `source`."""
    session: str = ""
    """In a session: the SHA-256 of its client's secret; see Envelope."""
    idle_limit_s: float | None = None
    workdir: str = "/tmp"  # noqa: S108 - on C2, where the center's user may have no home
    key: str = msgspec.field(default_factory=new_key)
    """Identifies the submission."""
    origin: str = ""
    """Where the submission came from."""

    @property
    def file_name(self) -> str:
        """The file's name, for messages."""
        return without_surrogates(self.file.name) if self.file else "job"

    @property
    def job_name(self) -> str:
        """The job's name in Slurm."""
        stem = without_surrogates(self.file.stem) if self.file else ""
        return self.name or stem or self.template or self.kind or "qslurm"

    @property
    def target(self) -> str:
        """The job's partition; "" if neither a partition nor a backend is set."""
        return self.partition or (f"p_{self.backend}" if self.backend else "")


def job_options(place: Place | None = None) -> dict[str, Declared]:
    """The options of a job by name: all, or those allowed in one place."""
    every = options_of(JobSpec)
    return {name: one for name, one in every.items() if place is None or place in one.option.places}
