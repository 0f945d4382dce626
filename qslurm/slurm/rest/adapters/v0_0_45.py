"""v0.0.45 (Slurm 26.05), one step above v0.0.44.

- A ping has `responding` instead of "UP", and the reason in `status`. Both are read.
- A job's `power` and a description's `power_flags` (empty since v0.0.40) are gone; `container_type`,
  `memory_update_delay` and `memory_update_margin` are new. Nothing to do.
"""

from __future__ import annotations

from dataclasses import replace

from qslurm.slurm.rest.adapters import v0_0_44

ADAPTER = replace(v0_0_44.ADAPTER, version="v0.0.45")
