"""v0.0.42 (Slurm 24.11 to 26.05), one step above v0.0.41.

Differences to v0.0.41, and what is done with each (seen on Slurm 24.11.5 and 26.05.5):

- `exclusive` and `oversubscribe` are ignored with a warning: the job would share its node. Converted to `shared`.
- Submitting: `result` is gone again. Nothing to do.
- Cancelling: errors are in `status`, a list by job, with HTTP 200 and empty `errors`: 2017 unknown, 2021 ended, 2002
  another center's. `classify.py` reads it.
- A ping has `responding` and `primary` beside "UP". Either is read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qslurm.slurm.rest.adapters import v0_0_41
from qslurm.slurm.rest.adapters.base import Payload

SHARED = {"true": "none", "false": "oversubscribe"}
"""The value of `shared` for an `exclusive`; "user", "mcs" and "topo" do not change."""


def payload(source: Payload) -> Payload:
    """The payload as v0.0.42 documents it."""
    previous = v0_0_41.payload(source)
    job: dict[str, Any] = dict(previous["job"])
    exclusive, oversubscribe = job.pop("exclusive", None), job.pop("oversubscribe", None)
    if "shared" not in job and exclusive:
        names = exclusive if isinstance(exclusive, list) else [exclusive]
        job["shared"] = [SHARED.get(name, name) for name in names]
    elif "shared" not in job and oversubscribe:
        job["shared"] = ["oversubscribe"]
    return {**previous, "job": job}


ADAPTER = replace(v0_0_41.ADAPTER, version="v0.0.42", payload=payload, cancels_in_silence=False)
