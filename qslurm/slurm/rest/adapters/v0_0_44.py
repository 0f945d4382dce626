"""v0.0.44 (Slurm 25.11 to 26.05), one step above v0.0.43.

- `step_id` and some flags are new in a job description. Nothing to do.
"""

from __future__ import annotations

from dataclasses import replace

from qslurm.slurm.rest.adapters import v0_0_43

ADAPTER = replace(v0_0_43.ADAPTER, version="v0.0.44")
