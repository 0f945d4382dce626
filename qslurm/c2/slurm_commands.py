"""What C2's hooks and gate ask Slurm's own commands, and tell them. No shell; every call has a time limit.

What the commands print is read by slurm/squeue_output.py and slurm/command_output.py.
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
from qslurm.slurm.squeue_output import FACTS_FORMAT, NOTHING_WRITTEN, WORDS_FORMAT, jobs_of, words_of
from qslurm.system.measured_command import run_measured

LAUNCH_FAILED = frozenset({"launch_failed_requeued_held", "launch failed requeued held"})
"""The reason of a job that slurmctld could not launch; squeue of 22.05 and scontrol write it differently."""

MOST_NAMED = 2000
"""Jobs that are asked for by their ids; of more all are listed."""


class SlurmCommands:
    """Slurm's commands on C2.

    Each raises UnreachableError if slurmctld does not answer in time, PermissionDeniedError if Slurm refuses the
    caller, QslurmError for anything else it says.
    """

    def __init__(self, config: SlurmConfig, *, timeout_s: float = 5.0) -> None:
        self._config = config
        self.timeout_s = timeout_s
        self.cpu_s = 0.0
        """The CPU time that the commands have taken."""

    def jobs(self, job_ids: Iterable[int] | None = None) -> dict[int, JobInfo]:
        """These jobs (None: all), those that ended lately among them; an id Slurm does not know is left out."""
        options = ["--states=all"]
        if job_ids is not None:
            wanted = sorted(set(job_ids))
            if not wanted:
                return {}
            options.append(f"--jobs={','.join(map(str, wanted))}")
        try:
            return jobs_of(self._squeue(*options))
        except (
            UnknownJobError
        ):  # squeue says so only when it was asked for one job; of several it leaves it out
            return {}

    def jobs_in(self, state: Literal["PENDING", "RUNNING"], partitions: Iterable[str]) -> dict[int, JobInfo]:
        """The jobs of these partitions that slurmctld says are in this state."""
        return jobs_of(self._squeue(f"--states={state}", f"--partition={','.join(partitions)}"))

    def listing(self) -> bytes:
        """All jobs, as slurm/squeue_output.py reads them: what Slurm itself says of each."""
        return self._squeue("--states=all")

    def words(self, job_ids: Collection[int]) -> bytes:
        """What people wrote on these jobs, and maybe on others, as slurm/squeue_output.py reads it."""
        options = ["--states=all"]
        if len(job_ids) <= MOST_NAMED:
            options.append(f"--jobs={','.join(map(str, job_ids))}")
        try:
            return self._squeue(*options, columns=WORDS_FORMAT)
        except UnknownJobError:
            return b""

    def marks(self, job_id: int) -> Comment:
        """What a job's comment, or the copy of it, says of the job; nothing if slurmctld does not know it."""
        said = words_of(self.words([job_id])).get(job_id, NOTHING_WRITTEN)
        return marks_of(said.comment, said.admin_comment)

    def statistics(self) -> str:
        """What slurmctld has done since it began, in numbers, as c2/gate/change_detector.py reads it."""
        return self._run("sdiag", [])

    def watch(self, terminal: int, every_s: int = 1) -> subprocess.Popen[bytes]:
        """A squeue that writes to this terminal, again and again, when slurmctld has last changed a job.

        It asks only whether anything has changed, which costs slurmctld next to nothing. It ends with the terminal,
        also where we ourselves are told to ignore that (nohup).
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
        """One job, or None if slurmctld does not know it (any more)."""
        return self.jobs([job_id]).get(job_id)

    def is_script_running(self, job_id: int, slurm_id: str = "") -> bool:
        """Whether slurmctld has not heard of the end of a job's batch script; of an array, of that task's only."""
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
        """The nodes of these partitions that are drained."""
        options = ["--noheader", "--Node", "--states=drain", f"--partition={','.join(partitions)}"]
        return parse_drained(self._run("sinfo", [*options, "--Format=NodeList:|,Reason:|,UserLong:|"]))

    def resume_node(self, name: str) -> None:
        """Let a drained node take jobs again."""
        self._run("scontrol", ["update", f"NodeName={name}", "State=RESUME"])

    def settings(self) -> dict[str, str]:
        """What slurmctld runs with, by the names of slurm.conf."""
        lines = self._run("scontrol", ["show", "config"]).splitlines()
        pairs = (line.partition("=") for line in lines if "=" in line)
        return {name.strip(): value.strip() for name, _, value in pairs}

    def nodes(self) -> dict[str, str]:
        """The nodes, and Slurm's word for the state of each."""
        lines = self._run("sinfo", ["--noheader", "--Node", "--Format=NodeList:|,StateLong:|"]).splitlines()
        cells = [line.split("|") for line in lines]
        return {cell[0].strip(): cell[1].strip() for cell in cells if len(cell) > 1}

    def slurmd(self, node: str) -> None:
        """Have a node's slurmd say how it is; UnreachableError if it does not answer."""
        # of which node, scontrol takes from this variable (slurm_load_slurmd_status; else it is this host's)
        self._output("scontrol", ["show", "slurmd"], of=f"slurmd on {node}", SLURMD_NODENAME=node)

    def clusters(self) -> list[str]:
        """The clusters in slurmdbd's database; UnreachableError if it does not answer."""
        names = self._output("sacctmgr", ["-nP", "show", "cluster", "format=cluster"], of="slurmdbd")
        return names.decode(errors="replace").split()

    def set_partition(self, name: str, state: str) -> None:
        """Give a partition a state (UP, DOWN, DRAIN, INACTIVE)."""
        self._run("scontrol", ["update", f"PartitionName={name}", f"State={state}"])

    def update_job(self, slurm_id: str, **values: str) -> None:
        """Change fields of a job (12, or 12_3 for a task of an array), named as scontrol names them."""
        pairs = [f"{name}={value}" for name, value in values.items()]
        self._run("scontrol", ["update", f"JobId={slurm_id}", *pairs])

    def start_now(self, slurm_id: str) -> None:
        """Let a requeued job start as soon as there is room, instead of after Slurm's two minutes."""
        self.update_job(slurm_id, StartTime="now")

    def release(self, slurm_id: str) -> None:
        """Let a held job run, as soon as there is room."""
        self._run("scontrol", ["release", slurm_id])
        self.start_now(slurm_id)

    def cancel(self, slurm_id: str) -> None:
        """Cancel a job, or a task of an array."""
        self._run("scancel", [slurm_id])

    def _squeue(self, *options: str, columns: str = FACTS_FORMAT) -> bytes:
        return self._output("squeue", ["--noheader", *options, f"--Format={columns}"])

    def _run(self, program: str, arguments: Sequence[str]) -> str:
        return self._output(program, arguments).decode(errors="replace")

    def _command(self, program: str) -> list[str]:
        return [os.path.join(self._config.bin, program)]  # noqa: PTH118 # "" means: on the PATH

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
        # Nothing is inherited: an SQUEUE_FORMAT or SLURM_* of the caller's must not change what Slurm says.
        path = ":".join(part for part in (self._config.bin, "/usr/bin", "/bin", "/usr/local/bin") if part)
        return {"PATH": path, "SLURM_CONF": self._config.conf, "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C.UTF-8"}


MEANS: Mapping[str, type[QslurmError]] = {
    "invalid job id": UnknownJobError,
    "unable to contact": UnreachableError,
    "socket timed out": UnreachableError,
    "connect failure": UnreachableError,
    "connection refused": UnreachableError,
    "invalid user id": PermissionDeniedError,
    "permission denied": PermissionDeniedError,
}
"""What Slurm's commands say, and what it means. They all end with 1 and say the rest in words: those of slurm_strerror
(src/common/slurm_errno.c), and of connect(2).
"""


def error_of(program: str, text: str, of: str = "slurmctld") -> QslurmError:
    """The error that a Slurm command's words on stderr stand for."""
    words = " ".join(text.split())[:300] or "it failed without a message"
    kind = next((kind for sign, kind in MEANS.items() if sign in words.lower()), QslurmError)
    if kind is UnreachableError:
        return kind(f"{of} does not respond: {words}.", hint=f"Check that {of} is running.")
    if kind is PermissionDeniedError:
        message = f"Permission denied by Slurm ({program}: {words})."
        return kind(message, hint="Run this as root or as SlurmUser.")
    return kind(f"{program}: {words}.")
