"""What the report makes of results: a page whose prose stays as it was, and charts that are SVG."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.figures import Chart, Figure, Part, Table, results
from benchmarks.plot import LinearAxis, LogAxis, NinesAxis, draw
from benchmarks.report import ReportError, main, together, write

PROSE = "# Title\n\nWhat a person wrote.\n\n<!-- figures: {} -->\nold figures\n<!-- end -->\n\nAnd more of it.\n"


def document() -> dict[str, Any]:
    part = Part("core", "The core")
    part.figures.append(
        Figure("messages", "1/s", [1000.123456789, 3000], "echo", [10_000], at_least=0.3, note="one client")
    )
    part.charts.append(Chart("growth", "Growth & more", "orders", "µs", {"new": [(1, 2), (10, 3)]}))
    part.tables += [Table("Functions", ["name", "share"], [["a|b", 0.5]]), Table("Others", ["name"], [["x"]])]
    return results([part.as_json() | {"seconds": 2.0}], {"cores": 2, "memory_bytes": 2**34, "load_average": [0.5, 1]})


def page_of(folder: Path, *names: str) -> str:
    page = folder / "performance.md"
    page.write_text("".join(PROSE.format(name) for name in names))
    write(document(), page)
    return page.read_text()


def test_figures_are_replaced_and_prose_stays(tmp_path: Path) -> None:
    text = page_of(tmp_path, "core")
    assert "old figures" not in text
    assert text.startswith("# Title\n\nWhat a person wrote.\n\n<!-- figures: core -->\n")
    assert text.endswith("<!-- end -->\n\nAnd more of it.\n")
    assert (
        "| messages; one client | 2,000 (1,000 to 3,000, 2 repeats) 1/s | 10,000 echo | 0.2 | ≥ 0.3: **not reached** |"
        in text
    )
    assert "![Growth & more](performance/core-growth.svg)" in text
    assert "| a\\|b | 0.5 |" in text
    write(document(), tmp_path / "performance.md")
    assert (tmp_path / "performance.md").read_text() == text, "a second time changes nothing"


def test_a_table_that_has_a_place_of_its_own_is_left_out_of_its_part(tmp_path: Path) -> None:
    text = page_of(tmp_path, "core", "core: Functions", "asked", "machine", "nothing")
    assert text.count("**Functions**") == 0
    assert text.count("**Others**") == 1
    assert text.count("| a\\|b | 0.5 |") == 1
    assert text.count("**not reached**") == 2
    assert "| memory | 16 GiB |" in text
    assert "Not in this run." in text


def test_results_are_kept_beside_the_page_in_few_digits(tmp_path: Path) -> None:
    page_of(tmp_path, "core")
    kept = json.loads((tmp_path / "performance" / "results.json").read_text())
    assert kept["parts"][0]["figures"][0]["samples"] == [1000.12, 3000]


def test_results_of_another_format_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps(document() | {"format": 99}))
    with pytest.raises(ReportError, match="format 99"):
        write(json.loads(file.read_text()), tmp_path / "page.md")
    assert main([str(file), "--page", str(tmp_path / "page.md")]) == 1
    assert "run them anew" in capsys.readouterr().err


def test_results_of_several_runs_are_taken_together() -> None:
    first, second, third = (document() for _ in range(3))
    first["machine"] |= {"commit": "a", "load_average": [3.0, 0.1]}
    second["machine"] |= {"commit": "b"}
    second["parts"][0]["seconds"] = 9.0
    third["machine"] |= {"commit": "a"}
    third["parts"][0] |= {"part": "growth"}
    whole = together([first, second, third])
    assert [(part["part"], part["seconds"]) for part in whole["parts"]] == [("core", 9.0), ("growth", 2.0)]
    assert (whole["machine"]["commit"], whole["machine"]["load_average"]) == ("a, b", [3.0, 1])
    assert together([first, second | {"format": 2}])["format"] is None


@pytest.mark.parametrize(
    "chart",
    [
        Chart("a", "A <b>", "x", "y", {"one": [(1, 1), (1000, 20)], "two": [(1, 3)]}, dashed=["two"]),
        Chart("b", "B", "x", "y", {"one": [(0, 0), (7, 3)]}, x_scale="linear", y_scale="linear"),
        Chart("c", "C", "p", "ms", {"one": [(0, 0.1), (50, 0.2), (99.9, 7)]}, "percentiles"),
        Chart(
            "d",
            "D",
            "",
            "µs",
            {"one": [(0, 5), (1, 0)], "two": [(0, 1)]},
            "bars",
            y_scale="linear",
            categories=["k", "l"],
        ),
    ],
)
def test_charts_are_svg_with_all_their_names(chart: Chart) -> None:
    texts = [element.text for element in ElementTree.fromstring(draw(chart)).iter("{http://www.w3.org/2000/svg}text")]
    assert {chart.title, *chart.series, *chart.categories} <= set(texts)


def test_axes_put_values_where_they_belong() -> None:
    log = LogAxis([0.5, 30], 0, 300)
    assert (log.ticks, log.place(0.1), log.place(1), log.place(100)) == ([0.1, 1, 10, 100], 0, 100, 300)
    linear = LinearAxis([0, 11], 0, 120)
    assert (linear.ticks, linear.place(6)) == ([0, 2, 4, 6, 8, 10, 12], 60)
    nines = NinesAxis([0, 99.9], 0, 300)
    assert nines.ticks == [0, 50, 90, 99, 99.9]
    assert [round(nines.place(percent)) for percent in (0, 90, 99, 99.9)] == [0, 100, 200, 300]


def test_a_logarithmic_axis_refuses_zero() -> None:
    with pytest.raises(ValueError, match="above 0"):
        draw(Chart("a", "A", "x", "y", {"one": [(0, 1)]}))
