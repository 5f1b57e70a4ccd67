"""Line charts as SVG, for the docs: a few lines of drawing instead of a plotting library."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 50
COLORS = ("#0b6e99", "#d9480f", "#2b8a3e", "#862e9c", "#e67700", "#495057", "#c2255c", "#1864ab")

Series = Mapping[str, Sequence[tuple[float, float]]]


def line_chart(title: str, x_label: str, y_label: str, series: Series, *, dashed: Sequence[str] = ()) -> str:
    """Return a chart of named lines, both axes logarithmic; `dashed` names the lines that are drawn so.

    Coordinates must be above 0. Raises ValueError where there is no point.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        raise ValueError("no point to draw")
    x_axis = Axis([x for x, _ in points], LEFT, WIDTH - RIGHT)
    y_axis = Axis([y for _, y in points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for value in x_axis.ticks:
        at = x_axis.place(value)
        parts.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#e0e0e0"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{short(value)}</text>')
    for value in y_axis.ticks:
        at = y_axis.place(value)
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#e0e0e0"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{short(value)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text x="18" y="{HEIGHT / 2:.0f}" text-anchor="middle" transform="rotate(-90 18 {HEIGHT / 2:.0f})">'
        f"{escape(y_label)}</text>"
    )
    for number, (name, line) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        dash = ' stroke-dasharray="5 4"' if name in dashed else ""
        places = [(x_axis.place(x), y_axis.place(y)) for x, y in sorted(line)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places]
        at = TOP + 18 * number
        legend = WIDTH - RIGHT + 14
        parts.append(
            f'<line x1="{legend}" y1="{at}" x2="{legend + 24}" y2="{at}" stroke="{color}" stroke-width="2"{dash}/>'
        )
        parts.append(f'<text x="{legend + 30}" y="{at + 4}">{escape(name)}</text>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


class Axis:
    """A logarithmic axis over whole decades, from one place on the paper to another."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(self.low + 1, math.ceil(math.log10(max(values))))
        self.start, self.end = start, end

    @property
    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]

    def place(self, value: float) -> float:
        return self.start + (math.log10(value) - self.low) / (self.high - self.low) * (self.end - self.start)


def short(value: float) -> str:
    """Return a tick's number in a few characters."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"
