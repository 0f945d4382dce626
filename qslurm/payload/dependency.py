"""Dependencies on other jobs of C2, in sbatch's syntax."""

from __future__ import annotations

import difflib
import re

from qslurm.errors import InvalidInputError

TYPES = ("after", "afterany", "afterburstbuffer", "aftercorr", "afternotok", "afterok", "singleton")

_JOB = re.compile(r"[1-9]\d{0,9}(?:_(?:\d{1,7}|\*))?(?:\+\d{1,9})?")

HINT = 'Use the syntax of sbatch: "afterok:12", "afterok:12:13,afterany:14", "singleton", with job ids of C2.'


def parse_dependency(text: str) -> str:
    """Check a dependency's syntax; InvalidInputError if invalid. Does not check that the jobs exist."""
    text = text.strip()
    if "," in text and "?" in text:
        raise InvalidInputError(
            f'Invalid dependency {text!r}: it mixes "," and "?".',
            hint='Use "," if all conditions must hold, or "?" if one is enough.',
        )
    # Slurm does not care about the case of a type (slurmctld/job_scheduler.c compares with xstrncasecmp)
    text = re.sub(r"[A-Za-z]+", lambda kind: kind[0].lower(), text)
    for part in re.split(r"[,?]", text):
        kind, *jobs = part.split(":")
        if kind not in TYPES:
            near = difflib.get_close_matches(kind, TYPES, n=1)
            meant = f"Did you mean {near[0]}?" if near else HINT
            raise InvalidInputError(f"Invalid dependency {text!r}, at {part!r}.", hint=meant)
        if bool(jobs) == (kind == "singleton"):
            raise InvalidInputError(f"Invalid dependency {text!r}, at {part!r}.", hint=HINT)
        for job in jobs:
            if not _JOB.fullmatch(job) or ("+" in job and kind != "after"):
                raise InvalidInputError(
                    f"Invalid dependency {text!r}: {job!r} is not a job id of C2.", hint=HINT
                )
    return text
