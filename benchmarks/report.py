"""Put the figures of a run into the docs: `python -m benchmarks.report RESULTS.json [...]`.

In docs/performance.md everything between `<!-- figures: NAME -->` and `<!-- end -->` is replaced by what the results
say of NAME; all else stays as it is written there. NAME is a part of the suite, `machine`, `asked` (all figures of
which something is asked), or a part and a table's title, `PART: TITLE`; a part's own block leaves those tables out.
Charts go to docs/performance/, and the results themselves beside them. Of several files the parts are taken together, a
part that is in more than one from the last; the machine's table has all their commits and times, and the highest load
averages.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import FORMAT, Chart, shown
from benchmarks.plot import draw
from exchange.config import PROJECT

PAGE = PROJECT / "docs" / "performance.md"
BLOCK = re.compile(r"(<!-- figures: ([^\n]+) -->\n).*?(<!-- end -->)", re.DOTALL)
DIGITS = 6  # of a number in the committed results


class ReportError(Exception):
    """The results can't be put into the docs; the text says why."""


def write(document: Mapping[str, Any], page: Path = PAGE) -> None:
    """Update a page, and the folder of its name, from the results of a run. Raises ReportError."""
    if document.get("format") != FORMAT:
        raise ReportError(f"the results have format {document.get('format')!r}, and this reads {FORMAT}: run them anew")
    parts = {part["part"]: part for part in document["parts"]}
    quick = [name for name, part in parts.items() if part.get("quick")]
    if quick:
        raise ReportError(f"{', '.join(quick)}: of a quick run, which measures nothing; run it without --quick")
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    for part in parts.values():
        for chart in part["charts"]:
            (folder / chart_file(part, chart)).write_text(draw(read_chart(chart)), "utf-8")
    (folder / "results.json").write_text(json.dumps(rounded(document), indent=1) + "\n", "utf-8")
    text = page.read_text("utf-8")
    apart = {name for _, name, _ in BLOCK.findall(text)}

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}\n{render(match[2], document, parts, apart, folder.name)}\n{match[3]}"

    page.write_text(BLOCK.sub(block, text), "utf-8")


def together(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the results of several runs as one."""
    if len(documents) == 1:
        return dict(documents[0])
    parts = {part["part"]: part for document in documents for part in document.get("parts", ())}
    machine: dict[str, Any] = {}
    for document in documents:
        for key, value in document.get("machine", {}).items():
            known = machine.setdefault(key, value)
            if isinstance(value, list):
                machine[key] = [max(pair) for pair in zip(known, value, strict=True)]
            elif isinstance(value, str) and value not in known.split(", "):
                machine[key] = f"{known}, {value}"
    formats = {document.get("format") for document in documents}
    return {"format": formats.pop() if len(formats) == 1 else None, "machine": machine, "parts": list(parts.values())}


def render(name: str, document: Mapping[str, Any], parts: Mapping[str, Any], apart: set[str], folder: str) -> str:
    """Return what stands in a block."""
    if name == "machine":
        return machine_table(document)
    if name == "asked":
        asked = [figure for part in parts.values() for figure in part["figures"] if "reached" in figure]
        return figure_table([{key: value for key, value in figure.items() if key != "note"} for figure in asked])
    part, _, title = name.partition(": ")
    if part not in parts:
        return "Not in this run.\n"
    if title:
        tables = [table for table in parts[part]["tables"] if table["title"] == title]
        if not tables:
            return "Not in this run.\n"
        return plain_table(tables[0]["head"], tables[0]["rows"])
    texts = [figure_table(parts[part]["figures"])]
    texts += [f"![{chart['title']}]({folder}/{chart_file(parts[part], chart)})\n" for chart in parts[part]["charts"]]
    for table in parts[part]["tables"]:
        if f"{part}: {table['title']}" not in apart:
            texts.append(f"**{table['title']}**\n\n{plain_table(table['head'], table['rows'])}")
    return "\n".join(texts)


def figure_table(figures: Sequence[Mapping[str, Any]]) -> str:
    """Return figures as a table: what was measured, beside what, with the spread of both."""
    rows = []
    for figure in figures:
        beside = ""
        if "limit" in figure:
            beside = f"{with_spread(figure['limit'], figure['limit_spread'])} {figure.get('limit_name', '')}"
        result = ""
        if figure["compared"] == "ratio":
            result = shown(figure["result"])
        elif figure["compared"] == "beyond":
            result = f"{shown(figure['result'])} {figure['unit']} beyond"
        wanted = ""
        if "reached" in figure:
            wanted = f"{bounds(figure)}: {'reached' if figure['reached'] else '**not reached**'}"
        name = f"{figure['name']}; {figure['note']}" if "note" in figure else figure["name"]
        rows.append(
            [name, f"{with_spread(figure['value'], figure['spread'])} {figure['unit']}", beside, result, wanted]
        )
    return plain_table(["figure", "measured", "beside", "result", "asked"], rows)


def bounds(figure: Mapping[str, Any]) -> str:
    texts = [f"{word} {shown(figure[key])}" for key, word in (("at_least", "≥"), ("at_most", "≤")) if key in figure]
    return " and ".join(texts)


def with_spread(value: float, spread: Mapping[str, float]) -> str:
    """Return a value with the least and the most of its repeats."""
    if spread["repeats"] == 1:
        return shown(value)
    return f"{shown(value)} ({shown(spread['min'])} to {shown(spread['max'])}, {spread['repeats']:g} repeats)"


def machine_table(document: Mapping[str, Any]) -> str:
    """Return the machine and the versions as a table."""
    rows = []
    for key, value in document["machine"].items():
        text = ", ".join(f"{each:g}" for each in value) if isinstance(value, list) else str(value)
        if key == "memory_bytes":
            key, text = "memory", f"{value / 2**30:.0f} GiB"
        rows.append([key.replace("_", " "), text])
    rows += [[f"seconds of {part['part']}", f"{part['seconds']:.0f}"] for part in document["parts"]]
    if "seconds" in document:
        rows.append(["seconds in all", f"{document['seconds']:.0f}"])
    return plain_table(["", ""], rows)


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = [cell if isinstance(cell, str) else shown(cell) for cell in row]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def chart_file(part: Mapping[str, Any], chart: Mapping[str, Any]) -> str:
    return f"{part['part']}-{chart['name'].removeprefix(part['part']).lstrip('_-')}.svg"


def read_chart(chart: Mapping[str, Any]) -> Chart:
    """Return a chart from its JSON."""
    series = {name: [(float(x), float(y)) for x, y in line] for name, line in chart["series"].items()}
    return Chart(**{**chart, "series": series})


def rounded(value: Any) -> Any:
    """Return a JSON value with its fractions in as many digits as a reader has use for."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="what python -m benchmarks, or a part, wrote")
    parser.add_argument("--page", type=Path, default=PAGE, help="which page to update")
    options = parser.parse_args(arguments)
    try:
        write(together([json.loads(file.read_text()) for file in options.results]), options.page)
    except (OSError, ValueError, ReportError) as error:
        print(f"{', '.join(map(str, options.results))}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
