"""Follow-up jobs: submitted to C1's sbatch, held until a C2 job has ended.

A follow-up's C2 job and condition are stored only in its comment in C1's queue, so that no restart loses them.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qslurm.errors import ConfigError, InvalidInputError, QslurmError, RefusedError, UncertainError
from qslurm.slurm.commands import run

if TYPE_CHECKING:
    from qslurm.c1.connection.center_connection import CenterConnection

FollowUpCondition = Literal["ok", "any", "failed"]
CONDITIONS: tuple[FollowUpCondition, ...] = ("ok", "any", "failed")

VARIABLE = "QSLURM_C2_JOB"
"""Environment variable of a follow-up: the key of the C2 job that it follows."""

SBATCH_S = 60.0
"""Time-out of sbatch in seconds; sbatch itself gives up earlier."""

BEFORE_NOTE = " -- "
"""Separates the mark from the readable part of a comment."""

_MARK = re.compile(
    r"qslurm then=(ok|any|failed) at=([\w.-]{1,64}) key=([A-Za-z0-9_.:/@+,-]{8,128})(?: -- .*)?", re.ASCII
)


@dataclass(frozen=True)
class Mark:
    """A follow-up's comment: the job that it follows, its platform, and the condition."""

    key: str
    condition: FollowUpCondition
    platform: str

    def format(self) -> str:
        """The comment's text."""
        return f"qslurm then={self.condition} at={self.platform} key={self.key}"

    @classmethod
    def parse(cls, comment: str) -> Mark | None:
        """Parse a comment; None if it is not a follow-up's."""
        match = _MARK.fullmatch(comment)
        return cls(match[3], match[1], match[2]) if match else None  # type: ignore[arg-type] # one of the three


@dataclass(frozen=True)
class Decision:
    """What to do with a follow-up, and the reason shown to its user."""

    do: Literal["wait", "release", "cancel"]
    reason: str = ""


WAIT = Decision("wait")


def decide(condition: FollowUpCondition, how: str, job_id: int = 0, why: str = "") -> Decision:
    """Decide about a follow-up from how its C2 job ended.

    `how` is "open", "refused" (C2 did not accept it), "lost" (it ended, its outcome is unknown) or an outcome; `why` is
    a sentence about it. As with sbatch's afterok and afternotok, any outcome but "completed" is a failure.
    """
    if how == "open":
        return WAIT
    if how == "refused":
        return Decision("cancel", f"C2 refused the job that it follows: {why}".strip())
    outcome = (
        f"On C2: {why or f'Job {job_id} {how}.'}"
        if how != "lost"
        else f"C2 has no record of how job {job_id} ended."
    )
    if condition == "any" or (how != "lost" and (condition == "ok") == (how == "completed")):
        return Decision("release", outcome)
    wanted = "completed" if condition == "ok" else "failed"
    return Decision("cancel", f"{outcome} This follow-up was to start if it {wanted}.")


@contextmanager
def followed(
    connection: CenterConnection,
    payload: Mapping[str, Any],
    script: Path | None,
    condition: FollowUpCondition,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[int | None]:
    """Submit a follow-up script to C1's sbatch, held until this payload's job ends; its id on C1.

    The block submits the payload; if C2 does not accept it, the script is cancelled. ConfigError without an agent that
    has a releaser. `say` gets notes for the user.
    """
    from qslurm.c1.queries.job_ids import KEY
    from qslurm.payload.comment import Comment

    if script is None:
        yield None
        return
    if not os.access(script, os.R_OK) or not script.is_file():
        raise InvalidInputError(
            f"Cannot read the follow-up script {script}.",
            hint="Use --then with a readable sbatch script.",
        )
    platform = connection.follow_up_platform
    if not platform:
        raise ConfigError(
            "Follow-up jobs need the center's agent and its releaser, which are not configured here.",
            hint="Use --wait, or ask the center's admins to run `qslurm agent releaser`.",
        )
    key = Comment.parse(str(payload["job"].get("comment", ""))).key
    if not KEY.fullmatch(key):
        raise InvalidInputError(
            "--then needs a submission key, which this payload's own comment replaces.",
            hint="Remove the payload's comment.",
        )
    environ = dict(os.environ)
    name = f"{connection.config.prefix}{key}"
    job_id, output = submit_held(script, Mark(key, condition, platform), name, environ)
    if output:
        say(output)
    connection.bind(followed=True)
    try:
        yield job_id
    except (UncertainError, KeyboardInterrupt):
        say(f"Follow-up job {job_id} stays held until the center's agent knows the submission's outcome.")
        raise
    except QslurmError:
        try:
            cancel_follow_up(job_id, environ)
        except QslurmError as error:
            say(f"Follow-up job {job_id} stays held and could not be cancelled: {error}")
        else:
            say(f"Cancelled follow-up job {job_id}.")
        raise
    finally:
        connection.bind()


def submit_held(
    script: Path, mark: Mark, job: str, environ: Mapping[str, str], limit_s: float = SBATCH_S
) -> tuple[int, str]:
    """Submit a script to C1's sbatch, held; the job's id, and sbatch's other output.

    `job` is the C2 job's id for commands in the script. The outcome is read from C1's queue, not from sbatch's output:
    sites and users can change what sbatch does. InvalidInputError if sbatch is not installed; RefusedError with
    sbatch's message, or after `limit_s`; nothing is left in the queue then.
    """
    directives = sbatch_options(script)
    if directives.wait:
        raise InvalidInputError(
            f"{script} sets --wait, which would wait for a held job.",
            hint="Remove --wait from its #SBATCH lines.",
        )
    command = ["sbatch", "--parsable", "--hold", f"--comment={mark.format()}"]
    command += [*_exported(directives.export, environ), "--", os.fspath(script)]
    try:
        done = _run(command, {**environ, VARIABLE: job}, limit_s)
    except RefusedError:
        _cancel_all(script, mark, "", environ)
        raise
    if not done.returncode and (held := _held(mark, environ)):
        words = [
            done.stderr.strip(),
            f"{script}: --comment is replaced by qslurm's." if directives.comment else "",
        ]
        return min(held), "\n".join(filter(None, words))  # each component of a heterogeneous job is held
    _cancel_all(script, mark, done.stdout, environ)
    why = f"exit code {done.returncode}" if done.returncode else "the submitted job lacks qslurm's comment"
    error_text = " ".join(done.stderr.replace("sbatch: error: ", "").split()) or why
    raise RefusedError(
        f"Cannot submit follow-up script {script}: {error_text.rstrip('.!')}.",
        hint="Nothing was submitted to C2.",
    )


def sbatch_options(script: Path) -> argparse.Namespace:
    """`export`, `comment` and `wait` from a script's #SBATCH lines, which precede its first command."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--export")
    parser.add_argument("--comment")
    parser.add_argument("--wait", "-W", action="store_true")
    found = argparse.Namespace(export=None, comment=None, wait=False)
    with script.open(errors="replace") as file:
        for line in islice(file, 1000):
            if line.startswith("#SBATCH"):
                with suppress(ValueError, argparse.ArgumentError):  # sbatch reports the error
                    parser.parse_known_args(shlex.split(line.removeprefix("#SBATCH"), comments=True), found)
            elif line.strip() and not line.startswith("#"):
                break
    return found


def _exported(by_script: str | None, environ: Mapping[str, str]) -> list[str]:
    """An --export option for sbatch that adds our variable, if the user's options would drop it.

    sbatch's order: an option, then the environment, then the script.
    """
    names = (environ.get("SBATCH_EXPORT") or by_script or "ALL").split(",")
    if {"ALL", VARIABLE} & {name.partition("=")[0].upper() for name in names}:
        return []
    return [f"--export={','.join([*(name for name in names if name.upper() != 'NONE'), VARIABLE])}"]


def _held(mark: Mark, environ: Mapping[str, str]) -> list[int]:
    """The held jobs of this user in C1's queue with this mark."""
    from qslurm.c1.followups.c1_queue import C1Queue

    queue = C1Queue(lambda command: _run(list(command), environ))
    return [one.job_id for one in queue.held(str(os.geteuid())) if one.mark == mark]


def _cancel_all(script: Path, mark: Mark, printed: str, environ: Mapping[str, str]) -> None:
    """Cancel a script's jobs: those with its mark, or else the job id that sbatch printed last, if it is held."""
    with suppress(QslurmError):  # the releaser cancels it later
        for job_id in _held(mark, environ):
            cancel_follow_up(job_id, environ)
        for job_id, cluster in re.findall(r"^(\d{1,10})(?:;(\S+))?$", printed, re.MULTILINE)[-1:]:
            options = [f"--clusters={cluster}"] if cluster else []
            look = ["squeue", "--noheader", *options, f"--jobs={job_id}", "--format=%r %o"]
            if f"JobHeldUser {script.absolute()}" in _run(look, environ).stdout.splitlines():
                _run(["scancel", *options, "--state=PENDING", job_id], environ)


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without the submitting job's variables (such as its memory limit, which steps obey), without C2's
    token (SLURM_JWT), which would be visible in the follow-up's environment, and without variables that change what
    sbatch, squeue and scancel do.
    """
    return {
        name: value
        for name, value in environ.items()
        if name == "SLURM_CONF"
        or not (name.startswith(("SLURM_", "SQUEUE_", "SCANCEL_")) or name == "SBATCH_WAIT")
    }


def cancel_follow_up(job_id: int, environ: Mapping[str, str]) -> None:
    """Cancel a follow-up; if this fails, the releaser does it later."""
    _run(["scancel", "--state=PENDING", str(job_id)], environ)


def _run(
    command: list[str], environ: Mapping[str, str], limit_s: float = SBATCH_S
) -> subprocess.CompletedProcess[str]:
    name = command[0]
    absent = InvalidInputError(
        f"{name} is not installed on this host; follow-up jobs need Slurm.", hint="Use --wait instead."
    )
    late = RefusedError(f"{name} timed out after {limit_s:g} s.", hint="Check this cluster's slurmctld.")
    return run(command, limit_s=limit_s, absent=absent, late=late, environ=clean_environment(environ))
