"""One small adapter per API version step of slurmrestd, newest first.

The canonical payload is that of v0.0.39, so an older version is reached by a chain of steps downwards (39 ->
38), a newer one will be by a chain upwards (39 -> 40 -> …). To add a version: write its module, put it into
`ADAPTERS`.
"""

from __future__ import annotations

import re

from qslurm.errors import ConfigError
from qslurm.slurmrest.adapters import v0_0_38, v0_0_39
from qslurm.slurmrest.adapters.base import Adapter

ADAPTERS: dict[str, Adapter] = {adapter.version: adapter for adapter in (v0_0_39.ADAPTER, v0_0_38.ADAPTER)}
"""By version, the newest first: the order in which they are tried."""

AUTO = "auto"

_FORMS = re.compile(r"(?:v?0\.0\.)?(\d+)")


def parse_version(text: str) -> str:
    """The full form of "v0.0.39", "0.0.39", "39" or "auto"; ConfigError for a version that is not spoken."""
    if text.strip().lower() == AUTO:
        return AUTO
    match = _FORMS.fullmatch(text.strip().lower())
    version = f"v0.0.{match[1]}" if match else ""
    if version not in ADAPTERS:
        raise ConfigError(
            f"API version {text!r} is none that qslurm speaks.",
            hint=f"It speaks {', '.join(ADAPTERS)}, or auto.",
        )
    return version


__all__ = ["ADAPTERS", "AUTO", "Adapter", "parse_version"]
