"""Draws docs/policies.svg: waits of executions under each policy, and the effects on jobs and centers.

Hand-written SVG: no plotting library is needed, and the file is small and can be compared by git.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 960, 430
COLOURS = ("#6b7280", "#d97706", "#2563eb", "#a78bfa", "#0d9488")
INK, FAINT, GRID = "#1f2937", "#6b7280", "#e5e7eb"
LEFT, TOP, CHART_W, CHART_H = 64, 84, 500, 270
SHORTEST_S, LONGEST_S = 0.01, 10_000.0
TICKS = (
    (0.01, "10 ms"),
    (0.1, "0.1 s"),
    (1, "1 s"),
    (10, "10 s"),
    (100, "100 s"),
    (1000, "17 min"),
    (10_000, "3 h"),
)
BARS_X, BARS_W, LABEL_W = 640, 250, 118


@dataclass(frozen=True)
class Line:
    """One policy: its name, the waits of its executions in seconds, and three numbers from 0 to 1 for the bars."""

    name: str
    waits: Sequence[float]
    utilisation: float
    hybrid_speed: float
    fairness: float


def draw(lines: Sequence[Line], subtitle: str) -> str:
    """The figure as an SVG document."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="ui-sans-serif, system-ui, Helvetica, Arial, sans-serif" role="img">',
        "<title>How executions wait under each policy</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>',
        _text(24, 34, "One day, 50 centers, one backend: who waits how long?", size=18, weight=600),
        _text(24, 56, subtitle, size=12, colour=FAINT),
        *_axes(),
        *(_curve(line, colour) for line, colour in zip(lines, COLOURS, strict=False)),
    ]
    panels: tuple[tuple[str, Callable[[Line], float]], ...] = (
        ("Utilisation of the backend", lambda line: line.utilisation),
        ("Speed of a hybrid job (alone = 1, median)", lambda line: line.hybrid_speed),
        ("Jain's fairness between centers that wait", lambda line: line.fairness),
    )
    top = TOP - 8
    for title, value in panels:
        parts += _bars(title, [(line.name, value(line)) for line in lines], top)
        top += 36 + 16 * len(lines)
    return "\n".join([*parts, "</svg>", ""])


def _axes() -> list[str]:
    parts = []
    for seconds, label in TICKS:
        x = _x(seconds)
        parts.append(f'<path d="M{x:.1f} {TOP}V{TOP + CHART_H}" stroke="{GRID}"/>')
        parts.append(_text(x, TOP + CHART_H + 18, label, size=11, colour=FAINT, anchor="middle"))
    for percent in (0, 25, 50, 75, 95, 100):
        y = _y(percent / 100)
        dashes = ' stroke-dasharray="3 3"' if percent == 95 else ""
        parts.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + CHART_W}" stroke="{GRID}"{dashes}/>')
        parts.append(_text(LEFT - 8, y + 4, f"{percent} %", size=11, colour=FAINT, anchor="end"))
    caption = "executions that have waited at most so long"
    return [
        *parts,
        _text(LEFT + CHART_W / 2, TOP + CHART_H + 42, caption, size=12, colour=INK, anchor="middle"),
    ]


def _curve(line: Line, colour: str) -> str:
    waits = sorted(line.waits)
    steps = 160
    points = []
    for step in range(steps + 1):
        seconds = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** (step / steps)
        points.append(f"{_x(seconds):.1f} {_y(bisect_right(waits, seconds) / len(waits)):.1f}")
    return f'<path d="M{"L".join(points)}" fill="none" stroke="{colour}" stroke-width="2.2" stroke-linejoin="round"/>'


def _bars(title: str, values: Sequence[tuple[str, float]], top: float) -> list[str]:
    parts = [_text(BARS_X, top + 8, title, size=12, weight=600)]
    for row, ((name, value), colour) in enumerate(zip(values, COLOURS, strict=False)):
        y = top + 18 + 16 * row
        x, width = BARS_X + LABEL_W, (BARS_W - LABEL_W) * value
        parts += [
            _text(BARS_X, y + 9, name, size=11, colour=INK),
            f'<rect x="{x}" y="{y}" width="{BARS_W - LABEL_W}" height="11" rx="2" fill="#f3f4f6"/>',
            f'<rect x="{x}" y="{y}" width="{width:.1f}" height="11" rx="2" fill="{colour}"/>',
            _text(BARS_X + BARS_W + 8, y + 9, f"{value:.2f}", size=11, colour=FAINT),
        ]
    return parts


def _text(
    x: float, y: float, words: str, *, size: int, colour: str = INK, weight: int = 400, anchor: str = "start"
) -> str:
    style = f'font-size="{size}" fill="{colour}" text-anchor="{anchor}"'
    bold = f' font-weight="{weight}"' if weight != 400 else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}{bold}>{escape(words)}</text>'


def _x(seconds: float) -> float:
    span = math.log(LONGEST_S / SHORTEST_S)
    return LEFT + CHART_W * math.log(max(seconds, SHORTEST_S) / SHORTEST_S) / span


def _y(share: float) -> float:
    return TOP + CHART_H * (1 - share)
