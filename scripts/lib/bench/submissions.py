"""A thousand different circuits, from the start of the first process to C2's last answer.

The peers of qslurm's one command are a loop of curl with ready payloads, and a loop of sbatch on C2.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.clusters import center
from bench.report import Report

COUNT = 1000
SWEPT = "version 3.0\nqubit[2] q\nbit[2] b\nRx({{ theta }}) q[0]\nCNOT q[0], q[1]\nb = measure q\n"


def run(report: Report) -> None:
    """Measure all in turn, so that noise affects each."""
    with center(report) as c1:
        if c1 is None:
            return
        circuits = c1.circuits(COUNT)
        template = c1.folder / "swept.cq"
        template.write_text(SWEPT)
        ways: dict[str, Callable[[], float]] = {
            "a loop of curl": lambda: c1.curls(c1.payloads(circuits)),
            "a loop of sbatch, on C2": lambda: c1.sbatches(c1.payloads(circuits)),
            "qslurm submit *.cq": lambda: c1.submits(circuits),
            "qslurm submit *.cq --separate": lambda: c1.submits(circuits, "--separate"),
            "qslurm submit --sweep": lambda: c1.submits([template], "--sweep", f"theta=0:3/{COUNT}", ids=1),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(min(report.runs, 3)):
            for way, measure in ways.items():
                rates[way].append(COUNT / measure())
                c1.clear()
        curl = report.add("a loop of curl", rates.pop("a loop of curl"), unit="1/s")
        sbatch = report.add(
            "a loop of sbatch, on C2",
            rates.pop("a loop of sbatch, on C2"),
            unit="1/s",
            peer=curl,
        )
        for way, values in rates.items():
            middle = report.add(way, values, unit="1/s", peer=curl)
            report.note(f"{'':56} ratio to sbatch {middle / sbatch:.3g}")
