"""Runs Slurm's commands for C2's hooks and gate: no shell, and a time limit for each call.

Their output is parsed by slurm/squeue_output.py and slurm/command_output.py.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from qslurm.c2.config.file import SlurmConfig
from qslurm.errors import PermissionDeniedError, QslurmError, UnknownJobError, UnreachableError
from qslurm.payload.comment import Comment, marks_of
from qslurm.slurm.command_output import (
    DrainedNode,
    parse_drained,
    parse_partitions,
)
from qslurm.slurm.job_info import JobInfo
from qslurm.slurm.squeue_output import NO_USER_FIELDS, SLURM_FORMAT, USER_FORMAT, jobs_of, user_fields_of
from qslurm.system.measured_command import run_measured

LAUNCH_FAILED = frozenset({"launch_failed_requeued_held", "launch failed requeued held"})
"""The reason of a job that slurmctld could not launch, as 22.05's squeue and scontrol write it."""

MOST_NAMED = 2000
"""Maximum ids in a squeue; for more jobs all are listed."""


class SlurmCommands:
    """Slurm's commands on C2.

    Methods raise UnreachableError if slurmctld does not answer in time, PermissionDeniedError if Slurm refuses the
    caller, and QslurmError for other errors.
    """

    def __init__(self, config: SlurmConfig, *, timeout_s: float = 5.0) -> None:
        self._config = config
        self.timeout_s = timeout_s
        self.cpu_s = 0.0
        """CPU time that the commands have used."""

    def jobs(self, job_ids: Iterable[int] | None = None) -> dict[int, JobInfo]:
        """Jobs by id (None: all), also ended ones that slurmctld still has. Unknown ids are missing."""
        options = ["--states=all"]
        if job_ids is not None:
            wanted = sorted(set(job_ids))
            if not wanted:
                return {}
            options.append(f"--jobs={','.join(map(str, wanted))}")
        try:
            return jobs_of(self._squeue(*options))
        except UnknownJobError:  # squeue's error for a single unknown id; of several it ignores unknown ones
            return {}

    def jobs_in(self, state: Literal["PENDING", "RUNNING"], partitions: Iterable[str]) -> dict[int, JobInfo]:
        """The jobs in these partitions that are in this state."""
        return jobs_of(self._squeue(f"--states={state}", f"--partition={','.join(partitions)}"))

    def listing(self) -> bytes:
        """All jobs, without user-written fields, for slurm/squeue_output.py."""
        return self._squeue("--states=all")

    def words(self, job_ids: Collection[int]) -> bytes:
        """The user-written fields of these jobs, and maybe of others, for slurm/squeue_output.py."""
        options = ["--states=all"]
        if len(job_ids) <= MOST_NAMED:
            options.append(f"--jobs={','.join(map(str, job_ids))}")
        try:
            return self._squeue(*options, columns=USER_FORMAT)
        except UnknownJobError:
            return b""

    def marks(self, job_id: int) -> Comment:
        """A job's marks, from its comment or the copy of it; empty if slurmctld does not know the job."""
        written = user_fields_of(self.words([job_id])).get(job_id, NO_USER_FIELDS)
        return marks_of(written.comment, written.admin_comment)

    def statistics(self) -> str:
        """Slurmctld's counters, for c2/gate/change_detector.py."""
        return self._run("sdiag", [])

    def watch(self, terminal: int, every_s: int = 1) -> subprocess.Popen[bytes]:
        """A squeue that repeatedly writes to this terminal when slurmctld last changed a job.

        It queries no job, so it costs slurmctld little. It ends with the terminal, also under nohup.
        """
        options = [f"--iterate={every_s}", "--verbose", "--noheader", "--states=BOOT_FAIL"]
        squeue = [*self._command("squeue"), *options]
        return subprocess.Popen(
            ["env", "--default-signal=HUP", "setsid", "--ctty", *squeue],
            env=self._environment(),
            stdin=terminal,
            stdout=terminal,
            stderr=subprocess.DEVNULL,
        )

    def job(self, job_id: int) -> JobInfo | None:
        """A job; None if slurmctld does not know it."""
        return self.jobs([job_id]).get(job_id)

    def is_script_running(self, job_id: int, slurm_id: str = "") -> bool:
        """Whether slurmctld lists a job's batch script as running; `slurm_id` (12_3) selects an array's task."""
        steps = self._run("squeue", ["--noheader", "--steps", f"--jobs={job_id}", "--Format=StepID:|"])
        wanted = {f"{job_id}.batch", f"{slurm_id or job_id}.batch"}
        return any(line.strip().removesuffix("|") in wanted for line in steps.splitlines())

    def batch_script(self, job_id: int) -> str:
        """The text of a job's batch script."""
        return self._run("scontrol", ["write", "batch_script", str(job_id), "-"])

    def partitions(self) -> dict[str, str]:
        """The state of every partition."""
        return parse_partitions(self._run("scontrol", ["--oneliner", "show", "partitions"]))

    def drained(self, partitions: Iterable[str]) -> list[DrainedNode]:
        """The drained nodes of these partitions."""
        options = ["--noheader", "--Node", "--states=drain", f"--partition={','.join(partitions)}"]
        return parse_drained(self._run("sinfo", [*options, "--Format=NodeList:|,Reason:|,UserLong:|"]))

    def resume_node(self, name: str) -> None:
        """Resume a drained node."""
        self._run("scontrol", ["update", f"NodeName={name}", "State=RESUME"])

    def settings(self) -> dict[str, str]:
        """Slurmctld's configuration, by the names of slurm.conf."""
        lines = self._run("scontrol", ["show", "config"]).splitlines()
        pairs = (line.partition("=") for line in lines if "=" in line)
        return {name.strip(): value.strip() for name, _, value in pairs}

    def nodes(self) -> dict[str, str]:
        """Nodes with their states."""
        lines = self._run("sinfo", ["--noheader", "--Node", "--Format=NodeList:|,StateLong:|"]).splitlines()
        cells = [line.split("|") for line in lines]
        return {cell[0].strip(): cell[1].strip() for cell in cells if len(cell) > 1}

    def slurmd(self, node: str) -> None:
        """Check that a node's slurmd answers; UnreachableError if it does not."""
        # scontrol takes the node from this variable (slurm_load_slurmd_status); the default is this host
        self._output("scontrol", ["show", "slurmd"], of=f"slurmd on {node}", SLURMD_NODENAME=node)

    def clusters(self) -> list[str]:
        """The clusters in slurmdbd's database; UnreachableError if it does not answer."""
        names = self._output("sacctmgr", ["-nP", "show", "cluster", "format=cluster"], of="slurmdbd")
        return names.decode(errors="replace").split()

    def set_partition(self, name: str, state: str) -> None:
        """Set a partition's state (UP, DOWN, DRAIN, INACTIVE)."""
        self._run("scontrol", ["update", f"PartitionName={name}", f"State={state}"])

    def update_job(self, slurm_id: str, **values: str) -> None:
        """Set fields of a job (12, or 12_3 for an array task), by scontrol's names."""
        pairs = [f"{name}={value}" for name, value in values.items()]
        self._run("scontrol", ["update", f"JobId={slurm_id}", *pairs])

    def start_now(self, slurm_id: str) -> None:
        """Let a requeued job start at once, instead of after two minutes."""
        self.update_job(slurm_id, StartTime="now")

    def release(self, slurm_id: str) -> None:
        """Release a held job and let it start at once."""
        self._run("scontrol", ["release", slurm_id])
        self.start_now(slurm_id)

    def cancel(self, slurm_id: str) -> None:
        """Cancel a job or an array task."""
        self._run("scancel", [slurm_id])

    def _squeue(self, *options: str, columns: str = SLURM_FORMAT) -> bytes:
        return self._output("squeue", ["--noheader", *options, f"--Format={columns}"])

    def _run(self, program: str, arguments: Sequence[str]) -> str:
        return self._output(program, arguments).decode(errors="replace")

    def _command(self, program: str) -> list[str]:
        return [os.path.join(self._config.bin, program)]  # noqa: PTH118 # with "" it is found on the PATH

    def _output(
        self, program: str, arguments: Sequence[str], *, of: str = "slurmctld", **variables: str
    ) -> bytes:
        command = [*self._command(program), *arguments]
        try:
            done = run_measured(command, {**self._environment(), **variables}, self.timeout_s)
        except TimeoutError:
            raise UnreachableError(
                f"{of} did not respond to {program} within {self.timeout_s:g} s.",
                hint=f"Check that {of} is running.",
            ) from None
        except OSError as error:
            raise QslurmError(
                f"Cannot run {command[0]}: {error.strerror}.",
                hint="Set `bin` under [slurm] in the C2 configuration.",
            ) from error
        self.cpu_s += done.cpu_s
        if done.returncode != 0:
            raise error_of(program, done.stderr.decode(errors="replace"), of)
        return done.stdout

    def _environment(self) -> Mapping[str, str]:
        # Nothing is inherited: the caller's SQUEUE_FORMAT or SLURM_* must not change the output.
        path = ":".join(part for part in (self._config.bin, "/usr/bin", "/bin", "/usr/local/bin") if part)
        return {"PATH": path, "SLURM_CONF": self._config.conf, "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C.UTF-8"}


ERRORS: Mapping[str, type[QslurmError]] = {
    "invalid job id": UnknownJobError,
    "unable to contact": UnreachableError,
    "socket timed out": UnreachableError,
    "connect failure": UnreachableError,
    "connection refused": UnreachableError,
    "invalid user id": PermissionDeniedError,
    "permission denied": PermissionDeniedError,
}
"""Errors by the text of Slurm's commands, which all exit 1: slurm_strerror's (src/common/slurm_errno.c) and
connect(2)'s.
"""


def error_of(program: str, text: str, of: str = "slurmctld") -> QslurmError:
    """The error for a Slurm command's output on stderr."""
    words = " ".join(text.split())[:300] or "it failed without a message"
    kind = next((kind for phrase, kind in ERRORS.items() if phrase in words.lower()), QslurmError)
    if kind is UnreachableError:
        return kind(f"{of} does not respond: {words}.", hint=f"Check that {of} is running.")
    if kind is PermissionDeniedError:
        message = f"Permission denied by Slurm ({program}: {words})."
        return kind(message, hint="Run this as root or as SlurmUser.")
    return kind(f"{program}: {words}.")
