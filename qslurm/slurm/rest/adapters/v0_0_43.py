"""v0.0.43 (Slurm 25.05 to 26.05), one step above v0.0.42, with the same job fields.

Seen on Slurm 26.05.5, in every version it has:

- The text for an unknown path is "Unable to find …" instead of "Unable find …". Any 404 without JSON counts as that.
- An invalid submission (2000, 2045, 2051, 2070, 2011 …) has status 422 instead of 500; a missing environment is 2127
  again, as in 22.05. The number decides, never the status.
- slurmdbd's paths return 7000 for a refused token and for a slurmdbd that is down. Then slurmctld is queried.
"""

from __future__ import annotations

from dataclasses import replace

from qslurm.slurm.rest.adapters import v0_0_42

ADAPTER = replace(v0_0_42.ADAPTER, version="v0.0.43")
