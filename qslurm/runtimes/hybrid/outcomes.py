"""Converts the dispatcher's messages to what `qi` returns; for a step on C2 and for a session."""

from __future__ import annotations

from qslurm.protocol.dispatcher_client import error_from
from qslurm.protocol.messages import Attached, Executed
from qslurm.runtimes.interface import BackendType, Outcome
from qslurm.runtimes.simulated_backend import backend_type

_SEEDS = 2**63


def backend_type_of(facts: Attached) -> BackendType:
    """The backend of a job, as described to the user's code."""
    if facts.backend_type is not None:
        return facts.backend_type
    return backend_type(
        facts.backend, qubits=facts.qubits, max_shots=facts.max_shots, default_shots=facts.default_shots
    )


def outcome_of(executed: Executed) -> Outcome:
    """The outcome of a circuit; raises the error that it failed with."""
    if executed.error:
        raise error_from(executed.kind, executed.error)
    return Outcome(
        counts=executed.counts,
        raw_data=executed.raw_data,
        shots_requested=executed.shots_requested,
        shots_done=executed.shots_done,
        seconds=executed.seconds,
    )


def seed_of(seed: int | None, seq: int) -> int | None:
    """The seed of a job's circuit with this number: repeatable, and different for each circuit."""
    return None if seed is None else (seed + seq) % _SEEDS
