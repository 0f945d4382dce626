"""Dependencies on other jobs of C2, as sbatch takes them."""

from __future__ import annotations

import difflib
import re

from qslurm.errors import InvalidInputError

TYPES = ("after", "afterany", "afterburstbuffer", "aftercorr", "afternotok", "afterok", "singleton")

_JOB = re.compile(r"[1-9]\d{0,9}(?:_(?:\d{1,7}|\*))?(?:\+\d{1,9})?")

HINT = 'Write it as sbatch does: "afterok:12", "afterok:12:13,afterany:14", "singleton"; the ids are C2\'s.'


def parse_dependency(text: str) -> str:
    """The dependency, if Slurm can read it; InvalidInputError otherwise. Whether the jobs exist C2 knows."""
    text = text.strip()
    if "," in text and "?" in text:
        raise InvalidInputError(
            f"The dependency {text!r} asks for all and for any at once.",
            hint='"," joins what must all be so, "?" what one is enough of.',
        )
    # Slurm does not care about the case of a type (slurmctld/job_scheduler.c compares with xstrncasecmp)
    text = re.sub(r"[A-Za-z]+", lambda kind: kind[0].lower(), text)
    for part in re.split(r"[,?]", text):
        kind, *jobs = part.split(":")
        if kind not in TYPES:
            near = difflib.get_close_matches(kind, TYPES, n=1)
            meant = f"Did you mean {near[0]}?" if near else HINT
            raise InvalidInputError(f"The dependency {text!r} can't be read, at {part!r}.", hint=meant)
        if bool(jobs) == (kind == "singleton"):
            raise InvalidInputError(f"The dependency {text!r} can't be read, at {part!r}.", hint=HINT)
        for job in jobs:
            if not _JOB.fullmatch(job) or ("+" in job and kind != "after"):
                raise InvalidInputError(f"The dependency {text!r}: {job!r} is no job of C2.", hint=HINT)
    return text
