"""What a benchmark says: figures beside their physical limits, charts and tables, in one form for all parts.

A part of the suite is a module here with

    def measure(quick: bool) -> dict[str, Any]:
        part = Part("core", "The matching core alone")
        part.figures.append(Figure("messages/s", "1/s", samples, limit_name="first reports only", limit_samples=...))
        return part.as_json()

    if __name__ == "__main__":
        main(measure, __doc__)

`quick` asks for tiny sizes: all of it within seconds, for a test of its form. `python -m benchmarks` runs all parts,
`benchmarks.report` draws from what they return, so that a part knows nothing of either.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.machine import describe_machine, load_average

FORMAT = 1  # of the JSON; it rises when a reader of an older one would be misled


@dataclass(frozen=True)
class Figure:
    """One figure: what was measured, in repeats, and what it is compared with.

    `samples` has one value a repeat, in the order in which they were taken. The figure's `value` is their median,
    unless `pooled` gives it: a percentile of all that was timed, say, of which each sample is that of one slice.
    `limit_samples` and `limit_pooled` are the same of the physical limit, taken in the same run.

    `result` is what is to be looked at, and what `at_least` and `at_most` are asked of: by `compared` the value divided
    by the limit's ("ratio"), the value less the limit's ("beyond"), or the value ("alone"). Where each repeat was
    paired with a limit of its own, `results` has what came of each pair, and their median counts.
    """

    name: str
    unit: str
    samples: Sequence[float]
    limit_name: str = ""
    limit_samples: Sequence[float] = ()
    compared: Literal["ratio", "beyond", "alone"] = "ratio"
    results: Sequence[float] = ()
    pooled: float | None = None
    limit_pooled: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError(f"{self.name}: no sample; a figure has at least one")
        if self.compared != "alone" and not self.results and not self.limit_samples:
            raise ValueError(f"{self.name}: no limit to compare with; give limit_samples, or compared='alone'")

    @property
    def value(self) -> float:
        return statistics.median(self.samples) if self.pooled is None else self.pooled

    @property
    def limit(self) -> float | None:
        """The limit's value, None where there is none."""
        if self.limit_pooled is not None or not self.limit_samples:
            return self.limit_pooled
        return statistics.median(self.limit_samples)

    @property
    def result(self) -> float:
        if self.results:
            return statistics.median(self.results)
        if self.compared == "alone" or self.limit is None:
            return self.value
        return self.value / self.limit if self.compared == "ratio" else self.value - self.limit

    @property
    def reached(self) -> bool | None:
        """Whether what is asked was reached; None where nothing is asked."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or self.result >= self.at_least) and (
            self.at_most is None or self.result <= self.at_most
        )

    def as_json(self) -> dict[str, Any]:
        """Return the fields, and what follows from them."""
        given = {name: value for name, value in asdict(self).items() if value not in (None, "", (), [])}
        derived: dict[str, Any] = {"value": self.value, "spread": spread(self.samples), "result": self.result}
        if self.limit_samples:
            derived |= {"limit": self.limit, "limit_spread": spread(self.limit_samples)}
        if self.results:
            derived["result_spread"] = spread(self.results)
        if self.reached is not None:
            derived["reached"] = self.reached
        return given | derived


@dataclass(frozen=True)
class Chart:
    """A picture: named series of points; `name`, and the part's, become the file's name.

    `kind`: "line" joins the points; "percentiles" draws values (y) over percentiles (x, 0 to below 100, spread by their
    nines as HdrHistogram does); "bars" puts bars side by side, x being the place in `categories`.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    kind: Literal["line", "percentiles", "bars"] = "line"
    x_scale: Literal["log", "linear"] = "log"
    y_scale: Literal["log", "linear"] = "log"
    dashed: Sequence[str] = ()  # the series that are drawn dashed: limits
    categories: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """A table: its cells as they are to be shown, text or numbers."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | float]]


@dataclass
class Part:
    """All that one part of the suite has to say. `details` is for machines only: whatever else was counted."""

    name: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "part": self.name,
            "title": self.title,
            "figures": [figure.as_json() for figure in self.figures],
            "charts": [asdict(chart) for chart in self.charts],
            "tables": [asdict(table) for table in self.tables],
            "details": self.details,
        }


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def spread(samples: Sequence[float]) -> dict[str, float]:
    """Return the least, the median and the most of some samples, and how many they are."""
    return {
        "min": min(samples),
        "median": statistics.median(samples),
        "max": max(samples),
        "repeats": len(samples),
    }


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the least of the sorted values that `percent` of them do not exceed. Raises IndexError of no values."""
    return ordered[max(0, min(len(ordered) - 1, -int(-len(ordered) * percent // 100) - 1))]


def shown(value: float) -> str:
    """Return a number in as many digits as it is worth: three, and no fewer than its whole ones."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def line(figure: Mapping[str, Any]) -> str:
    """Return a figure in its JSON form as a line of text."""
    text = f"{figure['name']}: {shown(figure['value'])} {figure['unit']}"
    if figure["spread"]["repeats"] > 1:
        text += f" ({shown(figure['spread']['min'])} to {shown(figure['spread']['max'])})"
    if "limit" in figure:
        text += f"; {figure.get('limit_name', 'limit')}: {shown(figure['limit'])}"
    if figure["compared"] != "alone":
        text += f"; {figure['compared']} {shown(figure['result'])}"
    return text + asked(figure)


def asked(figure: Mapping[str, Any]) -> str:
    """Return what was asked of a figure in its JSON form, and whether it was reached; "" where nothing was."""
    if "reached" not in figure:
        return ""
    bounds = [f"at least {shown(figure['at_least'])}"] if "at_least" in figure else []
    bounds += [f"at most {shown(figure['at_most'])}"] if "at_most" in figure else []
    return f" (asked: {', '.join(bounds)}: {'reached' if figure['reached'] else 'NOT reached'})"


def results(parts: Sequence[dict[str, Any]], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole document of a run: the machine as it was described before, its load now, and the parts."""
    return {"format": FORMAT, "machine": dict(before) | {"load_average_after": load_average()}, "parts": list(parts)}


def main(
    measure: Callable[[bool], dict[str, Any]], description: str | None, arguments: Sequence[str] | None = None
) -> int:
    """Run one part from the command line: print its figures, and JSON on the last line; write it where asked to."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    options = parser.parse_args(arguments)
    return run(lambda: measure(options.quick), options.json, options.quick)


def run(
    measure: Callable[[], dict[str, Any]], file: Path | None, quick: bool = False, folder: Path | None = None
) -> int:
    """Run one part, print its figures, and JSON on the last line; write it into a file where there is one.

    `folder` is where the exchange's data is, if not in the folder for temporary files. Of a quick run it is not said
    whether what is asked was reached: its sizes say nothing.
    """
    before = describe_machine(folder)
    start = time.monotonic()
    part = measure()
    part["seconds"] = round(time.monotonic() - start, 1)
    part["quick"] = quick
    if quick:
        for figure in part["figures"]:
            figure.pop("reached", None)
    for figure in part["figures"]:
        print(line(figure))
    document = json.dumps(results([part], before))
    if file:
        file.write_text(document + "\n")
    print(document, flush=True)
    return 0
