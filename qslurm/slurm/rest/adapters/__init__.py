"""One adapter per API version of slurmrestd, newest first.

The canonical payload is that of v0.0.39. An older version is a chain of steps downwards (39 -> 38), a newer one a chain
upwards (39 -> 40 -> … -> 45). To add a version, write its module and add it to `_STEPS`.
"""

from __future__ import annotations

import re

from qslurm.errors import ConfigError
from qslurm.slurm.rest.adapters import v0_0_38, v0_0_39, v0_0_40, v0_0_41, v0_0_42, v0_0_43, v0_0_44, v0_0_45
from qslurm.slurm.rest.adapters.base import Adapter

_STEPS = (v0_0_45, v0_0_44, v0_0_43, v0_0_42, v0_0_41, v0_0_40, v0_0_39, v0_0_38)

ADAPTERS: dict[str, Adapter] = {step.ADAPTER.version: step.ADAPTER for step in _STEPS}
"""Adapters by version, newest first: the order of negotiation."""

AUTO = "auto"

_FORMS = re.compile(r"(?:v?0\.0\.)?(\d+)")


def parse_version(text: str) -> str:
    """The canonical form of "v0.0.39", "0.0.39", "39" or "auto"; ConfigError if unsupported."""
    if text.strip().lower() == AUTO:
        return AUTO
    match = _FORMS.fullmatch(text.strip().lower())
    version = f"v0.0.{match[1]}" if match else ""
    if version not in ADAPTERS:
        raise ConfigError(
            f"Unsupported API version {text!r}.",
            hint=f"Use one of {', '.join(ADAPTERS)}, or auto.",
        )
    return version


__all__ = ["ADAPTERS", "AUTO", "Adapter", "parse_version"]
