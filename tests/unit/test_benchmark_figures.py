"""Figures of benchmarks: what is compared with what, and what was asked of it."""

import json

import pytest

from benchmarks.figures import Chart, Figure, Part, Table, line, percentile, shown


def test_a_ratio_is_of_the_medians() -> None:
    figure = Figure("orders", "1/s", [90, 10, 20], limit_name="echo", limit_samples=[100, 300], at_least=0.1)
    assert (figure.value, figure.limit, figure.result, figure.reached) == (20, 200, 0.1, True)


def test_pairs_are_compared_before_the_median_is_taken() -> None:
    figure = Figure("orders", "1/s", [10, 20, 90], limit_samples=[100, 100, 100], results=[0.1, 0.2, 0.9])
    assert figure.result == 0.2
    assert figure.reached is None


def test_what_is_beyond_the_limit_is_asked_to_be_little() -> None:
    figure = Figure(
        "ack", "ms", [1.0, 1.1], "sync", [0.5], compared="beyond", pooled=1.2, limit_pooled=0.6, at_most=0.5
    )
    assert figure.result == pytest.approx(0.6)
    assert figure.reached is False
    assert "beyond 0.6 (asked: at most 0.5: NOT reached)" in line(figure.as_json())


def test_a_figure_without_a_limit_stands_alone_and_says_so() -> None:
    with pytest.raises(ValueError, match="no limit"):
        Figure("memory", "bytes", [500])
    assert Figure("memory", "bytes", [500], compared="alone", at_most=600).reached
    with pytest.raises(ValueError, match="no sample"):
        Figure("memory", "bytes", [], compared="alone")


def test_the_json_holds_what_was_given_and_what_follows() -> None:
    part = Part("core", "The core")
    part.figures.append(Figure("orders", "1/s", [1.0, 3.0], limit_samples=[4.0], at_least=0.1))
    part.charts.append(Chart("growth", "Growth", "orders", "µs", {"new": [(1, 2), (10, 3)]}))
    part.tables.append(Table("Functions", ["name", "share"], [["apply", 0.5]]))
    decoded = json.loads(json.dumps(part.as_json()))
    figure = decoded["figures"][0]
    assert (figure["value"], figure["limit"], figure["result"], figure["reached"]) == (2.0, 4.0, 0.5, True)
    assert figure["spread"] == {"min": 1.0, "median": 2.0, "max": 3.0, "repeats": 2}
    assert decoded["charts"][0]["series"]["new"] == [[1, 2], [10, 3]]
    assert decoded["tables"][0]["rows"] == [["apply", 0.5]]


def test_a_percentile_is_a_value_that_so_many_do_not_exceed() -> None:
    values = list(range(1, 1001))
    assert [percentile(values, share) for share in (0, 50, 99, 99.9, 100)] == [1, 500, 990, 999, 1000]
    assert percentile([7], 50) == 7


def test_numbers_are_shown_in_three_digits() -> None:
    assert [shown(value) for value in (0, 0.01234, 1.5, 12.34, 1234.5, 1e6)] == [
        "0",
        "0.0123",
        "1.5",
        "12.3",
        "1,234",
        "1,000,000",
    ]
