"""Reports submitted jobs."""

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


def outbox_timeout(*, wait: bool, timeout_s: float | None) -> float:
    """Seconds that `submit` waits until C2 accepts a job from the agent's outbox."""
    import math

    from qslurm.c1.connection.polling import PATIENCE_S

    if not wait:
        return PATIENCE_S
    return math.inf if timeout_s is None else timeout_s


def print_submitted(
    connection: CenterConnection,
    payload: Mapping[str, Any],
    submitted: Submitted,
    *,
    parsable: bool,
    as_json: bool,
    follow_up: int | None = None,
) -> None:
    """Print a submitted job: as a sentence, the id alone, or JSON."""
    print_warnings(payload, submitted.warnings)
    config = connection.config
    partition, shown_id = payload["job"].get("partition"), f"{config.prefix}{submitted.job_id}"
    message = f"Submitted job {shown_id} to {partition} on {platform_label(config)}"
    if follow_up is not None:
        note(f"Follow-up job {follow_up} on this cluster is held until it ends.")
    if as_json:
        about = {"job_id": submitted.job_id, "id": shown_id, "platform": config.platform}
        # with an agent the version takes another request, so it is read only where it is shown
        version, warnings = api_version(connection), submitted.warnings
        then = {} if follow_up is None else {"follow_up": follow_up}
        printed = print_json(
            {**about, "partition": partition, "api_version": version, "warnings": warnings, **then}
        )
    else:
        printed = streams.write(shown_id if parsable else message)
    if not printed:  # stdout failed, but the user needs the job's id
        note(message)


def api_version(connection: CenterConnection) -> str | None:
    """The version of slurmrestd's API; None if slurmrestd does not answer."""
    try:
        return connection.slurm.api_version
    except QslurmError:
        return None


def platform_label(config: Config) -> str:
    """The platform's name in messages."""
    return config.platform if len(config.platforms) > 1 else "C2"


def print_warnings(payload: Mapping[str, Any], warnings: Sequence[str]) -> None:
    """Print C2's warnings about an accepted job."""
    for warning in warnings:
        if not (payload["job"].get("hold") and HELD in warning):  # the user asked for that
            note(f"C2 says: {warning}")
