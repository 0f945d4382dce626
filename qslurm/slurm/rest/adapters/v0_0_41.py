"""v0.0.41 (Slurm 24.05 to 24.11), one step above v0.0.40.

Differences to v0.0.40, and what is done with each (seen on Slurm 24.11.5):

- `distribution_plane_size` is {set, infinite, number}. Turned into one.
- A plain number is accepted for {set, infinite, number}; an invalid text is 9202, not 9209. Nothing to do.
- `exclusive` and `oversubscribe` are deprecated for `shared`, and still work. Left as they are.
"""

from __future__ import annotations

from dataclasses import replace

from qslurm.slurm.rest.adapters import v0_0_40
from qslurm.slurm.rest.adapters.base import Payload, with_numbers


def payload(source: Payload) -> Payload:
    """The payload as v0.0.41 documents it."""
    return with_numbers(v0_0_40.payload(source), "distribution_plane_size")


ADAPTER = replace(v0_0_40.ADAPTER, version="v0.0.41", payload=payload)
