"""The payload of one job, as every submission makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qslurm.c1.config.settings import Config
from qslurm.c1.submission.sending import Batch
from qslurm.payload.spec import JobSpec


def payload_for(
    config: Config,
    job: JobSpec,
    environ: Mapping[str, str],
    remark: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Check a job, and build its payload."""
    return Batch(config, [job], environ, remark=remark).packages[0].payload
