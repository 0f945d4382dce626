"""Policies on a synthetic day: 10^5 executions of 50 centers, each day the same, served by the dispatcher's own queue.

Prints the utilisation of the backend, the waits of executions, the speed of hybrid jobs (the time a job would take
alone, of the time it took) and Jain's fairness among centers that wait all the time, and draws docs/policies.svg.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median, quantiles

from simulation.day import CENTERS, LOAD, make_day
from simulation.plot import Line, draw
from simulation.serving import fairness, serve

from bench.report import Report
from qslurm.c2.config.dispatcher_section import BackendConfig

EXECUTIONS = 100_000
SESSION_IDLE_S = 0.3
FIGURE = Path(__file__).resolve().parents[3] / "docs" / "policies.svg"

BACKENDS = {
    "fifo": BackendConfig(name="simulated"),
    "priority": BackendConfig(name="simulated", policy="priority"),
    "fair": BackendConfig(name="simulated", policy="fair"),
    "fifo, sessions": BackendConfig(name="simulated", session_idle_s=SESSION_IDLE_S),
    "fair, sessions": BackendConfig(name="simulated", policy="fair", session_idle_s=SESSION_IDLE_S),
}


def run(report: Report) -> None:
    """Simulate the day under each policy, once: the simulation is deterministic."""
    day = make_day(EXECUTIONS)
    executions = sum(len(job.seconds) for job in day)
    lines = []
    for name, backend in BACKENDS.items():
        served = serve(day, backend)
        if len(served.waits) != executions:
            raise AssertionError(f"{name}: {len(served.waits)} of {executions} executions were served")
        line = Line(
            name, served.waits, served.busy_s / served.up_s, median(served.hybrid_speeds), fairness(served)
        )
        lines.append(line)
        report.add(f"{name}: utilisation", [100 * line.utilisation], unit="%")
        report.add(f"{name}: wait of an execution, median", [median(served.waits)], unit="s")
        report.add(f"{name}: wait of an execution, 95 %", [quantiles(served.waits, n=100)[94]], unit="s")
        report.add(f"{name}: speed of a hybrid job, median", [line.hybrid_speed], unit="")
        report.add(f"{name}: Jain's fairness between centers", [line.fairness], unit="")
    subtitle = (
        f"{executions:,} executions of {CENTERS} centers; hybrid bursts, two campaigns, calibrations; "
        f"load {LOAD:.0%}; sessions kept for {SESSION_IDLE_S:g} s"
    )
    FIGURE.write_text(draw(lines, subtitle), encoding="utf-8")
    report.note(f"drawn in {FIGURE.relative_to(FIGURE.parents[1])}")
