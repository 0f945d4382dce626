"""Charts as SVG text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from qslurm.plots.chart import Bars, Chart, Lines

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 60
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5")


def as_svg(chart: Chart) -> str:
    """The chart as an SVG document."""
    parts = _bars(chart) if isinstance(chart, Bars) else _lines(chart)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n'
        f"{_text(WIDTH / 2, 20, chart.title, size=14)}\n" + "\n".join(parts) + "\n</svg>\n"
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round tick values between two values, at most `most`."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [round(n * step, 12) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _bars(chart: Bars) -> Iterator[str]:
    most, room = max(chart.counts.values()), WIDTH - LEFT - RIGHT
    width = room / len(chart.counts)
    turned = width < 7 * max(len(bits) for bits in chart.counts)
    yield from _y_axis(0, most, "counts")
    for place, (bits, count) in enumerate(chart.counts.items()):
        height = (HEIGHT - TOP - BOTTOM) * count / (most or 1)
        x, y = LEFT + place * width, HEIGHT - BOTTOM - height
        yield (
            f'<rect x="{x + width * 0.1:.1f}" y="{y:.1f}" width="{width * 0.8:.1f}" height="{height:.1f}" '
            + (f'fill="{COLOURS[0]}"><title>{escape(bits)}: {count}</title></rect>')
        )
        yield _text(x + width / 2, HEIGHT - BOTTOM + 16, bits, turned=turned)


def _lines(chart: Lines) -> Iterator[str]:
    values = [y for line in chart.lines.values() for y in line if math.isfinite(y)] or [0.0]
    low, high = min(values), max(values)
    left, right = min(chart.x), max(chart.x)
    yield from _y_axis(low, high, chart.y_label)

    def at(x: float, y: float) -> str:
        return f"{_scaled(x, left, right, LEFT, WIDTH - RIGHT):.1f},{_scaled(y, low, high, HEIGHT - BOTTOM, TOP):.1f}"

    for tick in ticks(left, right):
        yield _text(_scaled(tick, left, right, LEFT, WIDTH - RIGHT), HEIGHT - BOTTOM + 16, f"{tick:g}")
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 24, chart.x_label)
    for number, (name, line) in enumerate(chart.lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [at(x, y) for x, y in zip(chart.x, line, strict=True) if math.isfinite(y)]
        yield f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for point in points if len(points) <= 100 else ():
            x, y = point.split(",")
            yield f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>'
        if len(chart.lines) > 1:
            yield _text(LEFT + 40 + number * 80, HEIGHT - 8, name, colour=colour)


def _y_axis(low: float, high: float, label: str) -> Iterator[str]:
    for tick in ticks(low, high):
        y = _scaled(tick, low, high, HEIGHT - BOTTOM, TOP)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        yield _text(LEFT - 6, y + 4, f"{tick:g}", anchor="end")
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text transform="translate(16 {middle:.0f}) rotate(-90)" text-anchor="middle">{escape(label)}</text>'


def _scaled(value: float, low: float, high: float, start: float, end: float) -> float:
    return start + (end - start) * ((value - low) / (high - low) if high > low else 0.5)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "middle",
    size: int = 12,
    colour: str = "#222",
    turned: bool = False,
) -> str:
    where = f'transform="translate({x:.1f} {y:.1f}) rotate(-40)"' if turned else f'x="{x:.1f}" y="{y:.1f}"'
    anchor = "end" if turned else anchor
    return f'<text {where} text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(text)}</text>'


def shown(values: Sequence[float]) -> str:
    """A line as a row of block characters, lowest value at the bottom."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    letters = "▁▂▃▄▅▆▇█"
    return "".join(
        letters[round(_scaled(value, low, high, 0, 7))] if math.isfinite(value) else " " for value in values
    )
