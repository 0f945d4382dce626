"""v0.0.40 (Slurm 23.11 to 24.11), one step above v0.0.39.

Differences to v0.0.39, and what is done with each (seen on Slurm 24.11.5):

- `begin_time` is {set, infinite, number}. Turned into one.
- A number where {set, infinite, number} is documented: still accepted with a warning. Never sent.
- An unknown field is no longer ignored silently: a warning names it. Shown to the user.
- A missing environment is error 2019 instead of 9200; a wrong type in {…} is 9209.
- Submitting: an entry of `errors` beside a job id (2068, with status 500) is a warning now, given twice. Shown once.
- Cancelling: **the response is the same for every job**, also if it has ended, is another center's, or does not exist.
  So the job is queried first.
- A refused token is 511 and 1007 everywhere but in a ping, which reports "DOWN", as for a slurmctld that is down. So
  another request follows such a ping. Errors that may be a refused token on 22.05 (-1, 5005) are not here: slurmctld is
  down, closed the connection, or is of another release while C2 is being upgraded.
- slurmdbd's paths return 7000 for a refused token and for a slurmdbd that is down; their `description` tells which.
- slurmctld down: -1 for queries (as 22.05), 1800 for a submission, 1 (EPERM) for a cancellation.
- An update needs no environment, a partition has its state (a list, one level deeper), one task of an array is
  cancelled alone, and only slurmdbd's paths need slurmdbd. While that is down, the list of partitions has errors (111
  or 7000, from `slurmdb_tres_get`), and is complete.
- Jobs: `job_state` is a list, times are {set, infinite, number}, exit codes {return_code, signal}. One
  reader serves all versions.
"""

from __future__ import annotations

from dataclasses import replace

from qslurm.slurm.rest.adapters import v0_0_39
from qslurm.slurm.rest.adapters.base import Payload, with_numbers


def payload(source: Payload) -> Payload:
    """The payload as v0.0.40 documents it."""
    return with_numbers(v0_0_39.payload(source), "begin_time")


ADAPTER = replace(
    v0_0_39.ADAPTER,
    version="v0.0.40",
    payload=payload,
    cancels_in_silence=True,
    names_refused_tokens=True,
    change=dict,
    fallback_version="",
    has_partition_states=True,
    cancels_tasks=True,
)
