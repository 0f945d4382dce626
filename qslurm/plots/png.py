"""Charts as PNG, by matplotlib (the extra `plot`)."""

from __future__ import annotations

from pathlib import Path

from qslurm.plots.chart import Bars, Chart


def write_png(chart: Chart, path: Path) -> None:
    """Draw the chart into a file; ModuleNotFoundError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(chart.title)
    if isinstance(chart, Bars):
        axes.bar(list(chart.counts), list(chart.counts.values()))
        axes.set_ylabel("counts")
        if len(chart.counts) * max(len(bits) for bits in chart.counts) > 80:
            axes.tick_params(axis="x", labelrotation=60)
    else:
        for name, line in chart.lines.items():
            axes.plot(list(chart.x), list(line), marker="o", markersize=3, label=name)
        axes.set_xlabel(chart.x_label)
        axes.set_ylabel(chart.y_label)
        if len(chart.lines) > 1:
            axes.legend()
    figure.savefig(path, format="png")
