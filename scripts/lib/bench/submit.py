"""The time of one `qslurm submit` of a circuit through the center's agent, as a whole process.

Its peers are curl with a ready payload, directly to slurmrestd, and sbatch on C2.
"""

from __future__ import annotations

from bench.clusters import center
from bench.report import Report

EACH = 5
"""Submissions in a row, of which one is measured at a time."""

AIM_S = 0.12


def run(report: Report) -> None:
    """Measure the three in turn."""
    with center(report) as c1:
        if c1 is None:
            return
        circuits = c1.circuits(1)
        taken: dict[str, list[float]] = {"curl": [], "sbatch on C2": [], "qslurm submit": []}
        for warm_up in (True, *[False] * (report.runs * EACH)):
            payloads = c1.payloads(circuits)
            seconds = (c1.curls(payloads), c1.sbatches(payloads), c1.submits(circuits))
            for values, one in zip(taken.values(), seconds, strict=True):
                if not warm_up:
                    values.append(one)
        c1.clear()
        curl = report.add(f"curl, with a ready payload ({c1.api_version})", taken["curl"], unit="s")
        report.add("sbatch, on C2", taken["sbatch on C2"], unit="s", peer=curl)
        report.add("qslurm submit, through the agent", taken["qslurm submit"], unit="s", peer=curl)
        above = [ours - peer for ours, peer in zip(taken["qslurm submit"], taken["curl"], strict=True)]
        report.add(f"qslurm submit minus curl (aim: {AIM_S:g})", above, unit="s")
