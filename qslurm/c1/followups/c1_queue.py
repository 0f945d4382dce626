"""C1's queue, read and changed through Slurm's commands (no shell, with time-outs)."""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from qslurm.c1.followups.followup_submission import BEFORE_NOTE, Mark
from qslurm.errors import QslurmError, RefusedError, UnreachableError
from qslurm.slurm.commands import run

COMMAND_S = 60.0
LONGEST_REASON = 500
"""Characters of a reason; a comment has room for 1024 bytes."""

# Messages of Slurm's commands about an ended job and an unreachable slurmctld; they print no error number
# (slurm_strerror, src/common/slurm_errno.c).
_GONE = ("Invalid job id", "already completing or completed", "already finished")
_UNREACHABLE = ("Unable to contact", "Unexpected message received", "Socket timed out", "Zero Bytes")
_HELD = ("JobHeldUser", "0")
_RUN = re.compile(r"[0-9]{1,10}(_[0-9]{1,10})?:[0-9]+")

AT_ONCE = 1000
"""Jobs per squeue call; an argument has at most 128 KiB."""

Run = Callable[[Sequence[str]], subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class HeldFollowUp:
    """A held follow-up job in C1's queue."""

    job_id: int
    user: str
    mark: Mark


def parse_held(text: str, sign: str) -> list[HeldFollowUp]:
    """Parse held follow-up jobs from squeue's output.

    A comment may contain lines that look like another user's job. So squeue's lines, and the comment in each, begin
    with `sign`, which is random. A user's name may contain spaces.
    """
    found = []
    for line in text.splitlines():
        before, *rest = line.split(sign, 2)
        words = rest[0].split(" ", 3) if len(rest) == 2 and not before else []
        if len(words) < 4:
            continue
        (job_id, reason, priority, user), comment = words, rest[1]
        mark = Mark.parse(comment)
        if mark is not None and (reason, priority) == _HELD and job_id.isdigit():
            found.append(HeldFollowUp(int(job_id), user, mark))
    return found


def parse_running(text: str) -> set[str]:
    """Running or suspended jobs in squeue's output, as `12:0` or `12_3:0` with the restart count."""
    running = set()
    for line in text.splitlines():
        job_id, state, restarts, *_ = [*line.strip().split("|"), "", ""]
        if state in ("RUNNING", "SUSPENDED", "CONFIGURING", "STOPPED", "SIGNALING"):
            running.add(f"{job_id}:{restarts}")
    return running


def run_command(
    command: Sequence[str], limit_s: float = COMMAND_S, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a Slurm command; QslurmError if it is not installed, UnreachableError if it times out."""
    name = command[0]
    absent = QslurmError(
        f"{name} is not installed on this host.",
        hint="Run the releaser on a host with this cluster's Slurm commands.",
    )
    late = UnreachableError(f"{name} timed out after {limit_s:.0f} s.")
    return run(command, limit_s=limit_s, absent=absent, late=late, environ=environ)


class C1Queue:
    """C1's queue. Methods raise UnreachableError if slurmctld is down, RefusedError if it refuses.

    A job that has ended, or was started by its user, is not an error. One squeue call lists at most `at_once` jobs.
    """

    def __init__(self, run: Run = run_command, at_once: int = AT_ONCE) -> None:
        self._run, self._at_once = run, at_once

    def cluster(self) -> str:
        """The cluster's name."""
        for line in self._output(["scontrol", "show", "config"]).splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "ClusterName":
                return value.strip()
        raise QslurmError("scontrol does not show this cluster's name.")

    def held(self, user: str = "") -> list[HeldFollowUp]:
        """All held follow-up jobs, or those of one user."""
        sign = secrets.token_hex(16)
        options = ["--noheader", "--states=PENDING", *([f"--user={user}"] if user else [])]
        form = f"--format={sign}%A %r %Q %u{sign}%k"
        return parse_held(self._output(["squeue", *options, form]), sign)

    def running(self, jobs: Iterable[str]) -> set[str]:
        """Those of these jobs (`12:0`, `12_3:0`, with the restart count) that are running.

        Malformed ids are left out: squeue would report "Invalid job id", as for an ended job, and list nothing.
        """
        wanted = sorted(job for job in set(jobs) if _RUN.fullmatch(job))
        form = "--Format=JobArrayID:|,State:|,RestartCnt:|"
        running: set[str] = set()
        for begin in range(0, len(wanted), self._at_once):
            part = wanted[begin : begin + self._at_once]
            ids = ",".join(job.partition(":")[0] for job in part)
            listed = self._output(["squeue", "--noheader", "--states=all", f"--jobs={ids}", form])
            running |= parse_running(listed) & set(part)
        return running

    def release(self, job_id: int, comment: str) -> None:
        """Release a held job, and replace its comment so that it is no longer a follow-up."""
        self._output(["scontrol", "release", str(job_id)])
        self._output(["scontrol", "update", f"JobId={job_id}", f"Comment={comment}"])

    def cancel(self, held: HeldFollowUp, reason: str) -> None:
        """Cancel a pending job, with the reason in its AdminComment.

        Only SlurmUser and administrators can set AdminComment; operators can set the user's comment (22.05), which
        keeps the mark, because the job is held until it is cancelled.
        """
        job, reason = f"JobId={held.job_id}", f"qslurm: {reason}"[:LONGEST_REASON]
        try:
            self._output(["scontrol", "update", job, f"AdminComment={reason}"])
        except RefusedError:
            self._output(["scontrol", "update", job, f"Comment={held.mark.format()}{BEFORE_NOTE}{reason}"])
        self._output(["scancel", "--state=PENDING", str(held.job_id)])

    def _output(self, command: Sequence[str]) -> str:
        done = self._run(command)
        message = " ".join(done.stderr.split())
        if not done.returncode or any(word in message for word in _GONE):
            return done.stdout
        if any(word in message for word in _UNREACHABLE):
            raise UnreachableError(f"This cluster's slurmctld is unreachable: {message}.")
        raise RefusedError(f"{command[0]} {command[1]}: {message or f'exit code {done.returncode}'}.")
