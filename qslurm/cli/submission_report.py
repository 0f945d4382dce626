"""Print a submitted job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qslurm.cli import streams
from qslurm.cli.output import note, print_json
from qslurm.errors import QslurmError

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.slurm.rest import Submitted

HELD = "held state"
"""In Slurm's warning, of every version, that a job is held."""


def patience(*, wait: bool, timeout_s: float | None) -> float:
    """Seconds that `submit` waits for an unreachable C2 while the center's agent keeps the job."""
    import math

    from qslurm.c1.connection.polling import PATIENCE_S

    if not wait:
        return PATIENCE_S
    return math.inf if timeout_s is None else timeout_s


def say_submitted(
    connection: CenterConnection,
    payload: Mapping[str, Any],
    submitted: Submitted,
    *,
    parsable: bool,
    as_json: bool,
    follow_up: int | None = None,
) -> None:
    """Print a job that C2 has taken, in the form that its user asked for."""
    say_warnings(payload, submitted.warnings)
    config = connection.config
    partition, shown_id = payload["job"].get("partition"), f"{config.prefix}{submitted.job_id}"
    message = f"Submitted job {shown_id} to {partition} on {shown_place(config)}"
    if follow_up is not None:
        note(f"Follow-up job {follow_up} on this cluster is held until it ends.")
    if as_json:
        about = {"job_id": submitted.job_id, "id": shown_id, "platform": config.platform}
        # with an agent the version is another question, so it is asked only where it is shown
        version, warnings = api_version(connection), submitted.warnings
        then = {} if follow_up is None else {"follow_up": follow_up}
        printed = print_json(
            {**about, "partition": partition, "api_version": version, "warnings": warnings, **then}
        )
    else:
        printed = streams.write(shown_id if parsable else message)
    if not printed:  # whatever has become of stdout: the job is there, and this is its only name
        note(message)


def api_version(connection: CenterConnection) -> str | None:
    """The version of slurmrestd's API; the job may be known while slurmrestd itself can't be asked."""
    try:
        return connection.slurm.api_version
    except QslurmError:
        return None


def shown_place(config: Config) -> str:
    """What a platform is called in a sentence."""
    return config.platform if len(config.platforms) > 1 else "C2"


def say_warnings(payload: Mapping[str, Any], warnings: Sequence[str]) -> None:
    """Print C2's warnings about an accepted job."""
    for warning in warnings:
        if not (payload["job"].get("hold") and HELD in warning):  # as it was asked for
            note(f"C2 says: {warning}")
