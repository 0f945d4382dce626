"""Parses what Slurm commands print about nodes and partitions; for jobs see slurm/squeue_output.py."""

from __future__ import annotations

import msgspec


class DrainedNode(msgspec.Struct, frozen=True, kw_only=True):
    """A drained node, with its reason and who set it (`by` is a uid)."""

    name: str
    reason: str
    by: int


def parse_drained(text: str) -> list[DrainedNode]:
    """Drained nodes from sinfo's output, which has a line for each partition. Invalid lines are ignored."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.strip().removesuffix("|").partition("|")
        reason, _, who = rest.rpartition("|")
        uid = who.rpartition("(")[2].removesuffix(")")  # slurm(64030)
        if uid.isascii() and uid.isdigit():
            found[name] = DrainedNode(name=name, reason=reason, by=int(uid))
    return list(found.values())


def parse_partitions(text: str) -> dict[str, str]:
    """Partition states by name, from `scontrol -o show partitions`."""
    states = {}
    for line in text.splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "PartitionName" in words and "State" in words:
            states[words["PartitionName"]] = words["State"]
    return states
