"""v0.0.39 (Slurm 23.02), the canonical form.

Differences between users' payloads and the documented form (recorded with 23.02.8):

- `environment` is a list of "K=V". An object is accepted with a warning; it is turned into the list.
- `nodes` is a text ("1", "1-4"). An integer is accepted with a warning; it is turned into a text.
- `time_limit` and its like are {set, infinite, number}. A number is accepted with a warning; it is turned
  into one. `begin_time` and `distribution_plane_size` are still plain; an object, as newer versions want it, is
  turned into a number.
- `script` may be inside the job or beside it. It is left where it is.
- Unknown fields are ignored, wrong types only warned about: `payload/validate.py` refuses them.
- Jobs: `job_state` is one text, times are plain numbers, limits and exit codes {set, infinite, number}.
- Accounting: `users=` narrows a search; an unknown job is an empty list. `return_code` is always 0, as in v0.0.38.
- Errors carry `error_number`.
- **Every call needs slurmdbd.** While that is down, each returns 7000, with the description of a refused token, and
  nothing but submissions is carried out; a list of jobs may be truncated. v0.0.38 on the same server needs no
  slurmdbd, so it is used then. If the server does not serve that, a ping decides: slurmctld is "UP" for a valid token.
- An update without `environment` is refused (9200); with one, the job's own does not change. Added.
- A partition's record has **no state**. v0.0.38 is used.
- Cancelling one task of an array **cancels the whole array** (`12_3` is read as 12). v0.0.38 is used.
- 1000 alone means that slurmctld answered too late and may have acted; beside 7000 it may be a refused token.
- An id above the maximum is 2139: an unknown job.
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
    fallback_version="v0.0.38",
    has_partition_states=False,
    cancels_tasks=False,
)
