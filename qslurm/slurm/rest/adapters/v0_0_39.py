"""v0.0.39 (Slurm 23.02), the canonical form.

Differences between what people write and what this version documents (recorded with 23.02.8):

- `environment` is a list of "K=V". An object is accepted with a warning; it is turned into the list.
- `nodes` is a text ("1", "1-4"). An integer is accepted with a warning; it is turned into a text.
- `time_limit` and its like are {set, infinite, number}. A number is accepted with a warning; it is turned
  into one. `begin_time` and `distribution_plane_size` are still plain; an object, as newer versions want it, is
  turned into a number.
- `script` may stand inside the job or beside it. It is left where it is, unless it stands in both places.
- Unknown fields are ignored, wrong types only warned about: that is for the payload's validation, not for
  here.
- Jobs: `job_state` is one text, times are plain numbers, limits and exit codes {set, infinite, number}.
- Accounting: `users=` narrows a search; an unknown job is an empty list. How a job ended is not in there: `return_code`
  is 0 whatever sacct says, as in v0.0.38.
- Errors carry `error_number`.
- **Every call asks slurmdbd first.** While that is away each is answered with 7000, in the same words as a refused
  token, and but for submissions nothing is done; a list of jobs may be cut. v0.0.38 on the same server needs no
  slurmdbd, so it is asked then. Where the server has none, a ping tells the two apart: slurmctld is "UP" for a token
  that it believes.
- An update without `environment` is refused (9200), and one with it leaves the job's own as it is. Given.
- A partition's record has **no state**. v0.0.38 is asked.
- Cancelling one task of an array **cancels the whole array** (`12_3` is read as 12). v0.0.38 cancels the task.
- 1000 alone is a slurmctld that answered too late, and may have acted; beside 7000 it may be a refused token.
- An id that is larger than any is 2139: an unknown job.
"""

from __future__ import annotations

from qslurm.slurm.rest.adapters.base import Adapter, Payload, with_numbers
from qslurm.slurm.rest.job_records import from_slurmctld, from_slurmdbd

NUMBER_OBJECTS = ("kill_warning_delay", "priority", "required_switches", "time_limit", "time_minimum")
"""Fields that are {set, infinite, number} in this version."""

PLAIN_NUMBERS = ("begin_time", "distribution_plane_size")
"""Fields that are plain numbers in this version, and {set, infinite, number} in a later one."""


def payload(source: Payload) -> Payload:
    """A copy of the payload with each field as v0.0.39 documents it."""
    job = dict(source["job"])
    environment = job.get("environment")
    if isinstance(environment, dict):
        job["environment"] = [f"{name}={value}" for name, value in environment.items()]
    if type(job.get("nodes")) is int:
        job["nodes"] = str(job["nodes"])
    for name in PLAIN_NUMBERS:
        if isinstance(job.get(name), dict) and (number := job.pop(name)).get("set"):
            job[name] = number.get("number")
    return with_numbers({**source, "job": job}, *NUMBER_OBJECTS)


def change(fields: Payload) -> Payload:
    """The fields of an update; without an environment, which would be replaced."""
    return {"environment": ["PATH=/bin"], **fields}


def search(user: str, since: int) -> str:
    """The path for accounting jobs by user, the cheapest filter; a start time hardly helps (measured)."""
    del since
    return f"users={user}" if user else ""


ADAPTER = Adapter(
    "v0.0.39",
    payload,
    from_slurmctld,
    from_slurmdbd,
    search,
    change=change,
    beside="v0.0.38",
    has_partition_states=False,
    cancels_tasks=False,
)
