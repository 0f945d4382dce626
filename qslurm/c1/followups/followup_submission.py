"""Follow-up jobs: submitted to C1's sbatch, held until a C2 job has ended.

What is to become of a follow-up stands in its own comment in C1's queue, and nowhere else: whoever reads the queue
knows it, whatever was killed or restarted in between.
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

    `how` is "open", "refused" (C2 never took it), "lost" (it has ended, and nobody knows how) or an outcome, `why` a
    sentence about it. As with sbatch's afterok, afternotok and afterany all but "completed" is a failure.
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


def _unsaid(_: str) -> None:
    """Discards remarks."""


@contextmanager
def followed(
    connection: CenterConnection,
    payload: Mapping[str, Any],
    script: Path | None,
    condition: FollowUpCondition,
    say: Callable[[str], None] = _unsaid,
) -> Iterator[int | None]:
    """Submit a follow-up script to C1's sbatch, held until this payload's job ends; its id on C1.

    The body submits the payload. ConfigError without an agent that releases the script; if the body finds that C2 will
    not have the job, it is taken back. `say` is told what its user may want to know.
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
            take_back(job_id, environ)
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

    `job` is how the script's commands name the job that it follows. What sbatch prints may be a site's or a user's
    own, and their variables and #SBATCH lines may have it do something else: C1's queue says what became of it.
    InvalidInputError if there is no sbatch, RefusedError with sbatch's words, or if it takes longer than `limit_s`;
    nothing is left in the queue then.
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
        _take_back_all(script, mark, "", environ)
        raise
    if not done.returncode and (held := _held(mark, environ)):
        words = [
            done.stderr.strip(),
            f"{script}: --comment is replaced by qslurm's." if directives.comment else "",
        ]
        return min(held), "\n".join(filter(None, words))  # of a heterogeneous job each component is held
    _take_back_all(script, mark, done.stdout, environ)
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
                with suppress(ValueError, argparse.ArgumentError):  # sbatch says what is wrong with it
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


def _take_back_all(script: Path, mark: Mark, printed: str, environ: Mapping[str, str]) -> None:
    """Cancel whatever has become of a script that is not to follow: by its mark or, where that was taken from it, by
    the id that sbatch printed last, if that is a held job of this script.
    """
    with suppress(QslurmError):  # what can't be looked at now the releaser cancels later
        for job_id in _held(mark, environ):
            take_back(job_id, environ)
        for job_id, cluster in re.findall(r"^(\d{1,10})(?:;(\S+))?$", printed, re.MULTILINE)[-1:]:
            there = [f"--clusters={cluster}"] if cluster else []
            look = ["squeue", "--noheader", *there, f"--jobs={job_id}", "--format=%r %o"]
            if f"JobHeldUser {script.absolute()}" in _run(look, environ).stdout.splitlines():
                _run(["scancel", *there, "--state=PENDING", job_id], environ)


def of_nobodys_job(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what Slurm has told the job that submits, such as its memory, which steps obey; without
    a token: SLURM_JWT would be C2's, and the follow-up's environment is seen by whoever may see the job; and without
    what has sbatch wait, squeue list something else, or scancel ask before it cancels.
    """
    return {
        name: value
        for name, value in environ.items()
        if name == "SLURM_CONF"
        or not (name.startswith(("SLURM_", "SQUEUE_", "SCANCEL_")) or name == "SBATCH_WAIT")
    }


def take_back(job_id: int, environ: Mapping[str, str]) -> None:
    """Cancel a follow-up that has nothing to follow; if that fails, the releaser does it later."""
    _run(["scancel", "--state=PENDING", str(job_id)], environ)


def _run(
    command: list[str], environ: Mapping[str, str], limit_s: float = SBATCH_S
) -> subprocess.CompletedProcess[str]:
    name = command[0]
    absent = InvalidInputError(
        f"{name} is not installed on this host; follow-up jobs need Slurm.", hint="Use --wait instead."
    )
    late = RefusedError(f"{name} timed out after {limit_s:g} s.", hint="Check this cluster's slurmctld.")
    return run(command, limit_s=limit_s, absent=absent, late=late, environ=of_nobodys_job(environ))
