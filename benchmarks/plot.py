"""Charts as SVG, for the docs: a few lines of drawing instead of a plotting library."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Protocol

from benchmarks.figures import Chart

WIDTH, HEIGHT = 800, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 230, 40, 50
PAPER_RIGHT, PAPER_BOTTOM = WIDTH - RIGHT, HEIGHT - BOTTOM
COLORS = ("#0b6e99", "#d9480f", "#2b8a3e", "#862e9c", "#e67700", "#495057", "#c2255c", "#1864ab")
TICKS = 6  # of a linear axis, about
GROUP = 0.8  # of the room of a category that its bars take

Series = Mapping[str, Sequence[tuple[float, float]]]


class Axis(Protocol):
    """What turns values into places on the paper, and says where to mark it."""

    @property
    def ticks(self) -> Sequence[float]: ...

    def place(self, value: float) -> float: ...


def draw(chart: Chart) -> str:
    """Return a chart as SVG. Raises ValueError where there is no point, or one that a logarithmic axis can't have."""
    points = [point for line in chart.series.values() for point in line]
    if not points:
        raise ValueError(f"{chart.name}: no point to draw")
    values = [y for _, y in points]
    bars = chart.kind == "bars"
    y_axis: Axis
    if chart.y_scale == "log":
        y_axis = LogAxis(values, PAPER_BOTTOM, TOP)
    else:
        y_axis = LinearAxis([0.0, *values], PAPER_BOTTOM, TOP)
    x_axis: Axis
    if bars:
        x_axis = PlaceAxis(len(chart.categories), LEFT, PAPER_RIGHT)
    elif chart.kind == "percentiles":
        x_axis = NinesAxis([x for x, _ in points], LEFT, PAPER_RIGHT)
    elif chart.x_scale == "log":
        x_axis = LogAxis([x for x, _ in points], LEFT, PAPER_RIGHT)
    else:
        x_axis = LinearAxis([x for x, _ in points], LEFT, PAPER_RIGHT)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="bold">{escape(chart.title)}</text>',
        *_grid(x_axis, y_axis, chart),
    ]
    for number, (name, line) in enumerate(chart.series.items()):
        color = COLORS[number % len(COLORS)]
        dash = ' stroke-dasharray="5 4"' if name in chart.dashed else ""
        if bars:
            parts += _bars(line, number, len(chart.series), x_axis, y_axis, color)
        else:
            parts += _line(line, x_axis, y_axis, color, dash, dots=chart.kind == "line")
        parts += _legend(name, number, color, dash)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def line_chart(title: str, x_label: str, y_label: str, series: Series, *, dashed: Sequence[str] = ()) -> str:
    """Return a chart of named lines, both axes logarithmic; `dashed` names the lines that are drawn so."""
    return draw(Chart("", title, x_label, y_label, series, dashed=dashed))


def _grid(x_axis: Axis, y_axis: Axis, chart: Chart) -> list[str]:
    parts = []
    for value in x_axis.ticks:
        at = x_axis.place(value)
        bars = chart.kind == "bars"
        text = chart.categories[int(value)] if bars else short(value)
        if not bars:
            parts.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{PAPER_BOTTOM}" stroke="#e0e0e0"/>')
        size = ' font-size="10"' if bars else ""  # names stand closer than numbers
        parts.append(f'<text x="{at:.1f}" y="{PAPER_BOTTOM + 18}" text-anchor="middle"{size}>{escape(text)}</text>')
    for value in y_axis.ticks:
        at = y_axis.place(value)
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{PAPER_RIGHT}" y2="{at:.1f}" stroke="#e0e0e0"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{short(value)}</text>')
    middle = (LEFT + PAPER_RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(chart.x_label)}</text>')
    parts.append(
        f'<text x="18" y="{HEIGHT / 2:.0f}" text-anchor="middle" transform="rotate(-90 18 {HEIGHT / 2:.0f})">'
        f"{escape(chart.y_label)}</text>"
    )
    return parts


def _line(
    line: Sequence[tuple[float, float]], x_axis: Axis, y_axis: Axis, color: str, dash: str, *, dots: bool
) -> list[str]:
    places = [(x_axis.place(x), y_axis.place(y)) for x, y in sorted(line)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>']
    if dots:
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places]
    return parts


def _bars(
    line: Sequence[tuple[float, float]], number: int, count: int, x_axis: Axis, y_axis: Axis, color: str
) -> list[str]:
    room = x_axis.place(1) - x_axis.place(0)
    width = room * GROUP / count
    parts = []
    for x, y in line:
        left = x_axis.place(x) - room * GROUP / 2 + number * width
        top = y_axis.place(y)
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{max(0.0, PAPER_BOTTOM - top):.1f}" '
            f'fill="{color}"/>'
        )
    return parts


def _legend(name: str, number: int, color: str, dash: str) -> list[str]:
    at, left = TOP + 18 * number, PAPER_RIGHT + 14
    return [
        f'<line x1="{left}" y1="{at}" x2="{left + 24}" y2="{at}" stroke="{color}" stroke-width="2"{dash}/>',
        f'<text x="{left + 30}" y="{at + 4}">{escape(name)}</text>',
    ]


class LogAxis:
    """A logarithmic axis over whole decades, from one place on the paper to another."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        if min(values) <= 0:
            raise ValueError(f"{min(values)}: a logarithmic axis has values above 0 only; make it linear")
        self.low = math.floor(math.log10(min(values)))
        self.high = max(self.low + 1, math.ceil(math.log10(max(values))))
        self.start, self.end = start, end

    @property
    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]

    def place(self, value: float) -> float:
        return self.start + (math.log10(value) - self.low) / (self.high - self.low) * (self.end - self.start)


class LinearAxis:
    """A linear axis, its ticks at multiples of 1, 2 or 5 and a power of ten."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        span = max(values) - min(values) or abs(max(values)) or 1.0
        power = 10.0 ** math.floor(math.log10(span / TICKS))
        self.step = next(step * power for step in (1, 2, 5, 10) if step * power * TICKS >= span)
        self.low = math.floor(min(values) / self.step)
        self.high = max(self.low + 1, math.ceil(max(values) / self.step))
        self.start, self.end = start, end

    @property
    def ticks(self) -> list[float]:
        return [round(number * self.step, 12) for number in range(self.low, self.high + 1)]

    def place(self, value: float) -> float:
        return self.start + (value / self.step - self.low) / (self.high - self.low) * (self.end - self.start)


class NinesAxis:
    """An axis of percentiles: each further nine takes as much room as the one before."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.most = max(1.0, self.nines(max(values)))
        self.start, self.end = start, end

    @staticmethod
    def nines(percent: float) -> float:
        if not 0 <= percent < 100:
            raise ValueError(f"{percent}: a percentile is from 0 to below 100 here")
        return -math.log10(1 - percent / 100)

    @property
    def ticks(self) -> list[float]:
        return [percent for percent in (0.0, 50.0, 90.0, 99.0, 99.9, 99.99) if self.nines(percent) <= self.most + 1e-9]

    def place(self, value: float) -> float:
        return self.start + self.nines(value) / self.most * (self.end - self.start)


class PlaceAxis:
    """An axis of so many categories, side by side."""

    def __init__(self, count: int, start: float, end: float) -> None:
        self.count, self.start, self.end = max(1, count), start, end

    @property
    def ticks(self) -> list[float]:
        return [float(place) for place in range(self.count)]

    def place(self, value: float) -> float:
        return self.start + (value + 0.5) / self.count * (self.end - self.start)


def short(value: float) -> str:
    """Return a tick's number in a few characters."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"
