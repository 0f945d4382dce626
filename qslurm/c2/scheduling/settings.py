"""The settings of a backend's queue and of what a job may use: what can't work is said before anything runs."""

from __future__ import annotations

import math
from difflib import get_close_matches

from qslurm.c2.config.dispatcher import BackendConfig
from qslurm.c2.scheduling.policy import POLICIES
from qslurm.errors import ConfigError


def check_scheduling(backend: BackendConfig) -> None:
    """Refuse settings of the backend's queue that can't work, with the name of the setting (ConfigError)."""
    if backend.policy not in POLICIES:
        near = get_close_matches(backend.policy, POLICIES, n=1)
        raise ConfigError(
            f"Backend {backend.name!r} has policy {backend.policy!r}; known are: {', '.join(POLICIES)}.",
            hint=f"Did you mean {near[0]!r}?" if near else "",
        )
    for setting, least in (
        ("qpu_limit_s", 0.0),
        ("ageing_s", 0.0),
        ("session_idle_s", 0.0),
        ("session_max_s", 0.0),
        ("half_life_s", 1.0),
    ):
        value = getattr(backend, setting)
        if not least <= value or (math.isinf(value) and setting != "half_life_s"):
            raise ConfigError(f"Backend {backend.name!r}: {setting} must be {least:g} or more.")
    for center, weight in backend.weights.items():
        if not 0 < weight < math.inf:
            raise ConfigError(f"Backend {backend.name!r}: the weight of {center!r} must be more than 0.")
