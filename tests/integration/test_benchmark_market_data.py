"""The market-data benchmark, in tiny sizes: it runs, and it sees the order in which a plain PUB serves."""

from benchmarks import market_data
from benchmarks.figures import percentile


def test_the_order_of_a_plain_pub_is_seen_and_every_delivery_is_counted() -> None:
    sizes = market_data.Sizes((20,), (20,), (50,), 1, 20, 40, 20, 20, 100)
    part = market_data.measure(sizes=sizes)
    assert part["part"] == "market_data"
    by_name = {figure["name"]: figure for figure in part["figures"]}
    furthest = next(figure for name, figure in by_name.items() if name.startswith("furthest mean place"))
    assert furthest["limit"] > 0.9, "who was first was first every time"
    places = part["details"]["mean_places"]
    for means in places.values():
        assert round(sum(means), 6) == sum(range(20)), "each place is somebody's, at each message"
    assert percentile(sorted(places["notifier"]), 100) < 19
    assert {chart["name"] for chart in part["charts"]} == {"market_data_places", "market_data_deliveries"}
    assert [row[:2] for row in part["tables"][0]["rows"]] == [[20, "bare PUB loop"], [20, "fair publisher"]]
