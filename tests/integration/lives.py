"""An order's life as its owner is told it: its reports in short, after each was looked at whole."""

from tests.integration.outsider import Message, Subscription, Venue

COMMON = {
    "type",
    "account",
    "asset",
    "sequence",
    "exec_type",
    "order_status",
    "order_id",
    "client_order_id",
    "side",
    "order_type",
    "time_in_force",
    "quantity",
    "cumulative_quantity",
    "leaves_quantity",
    "time",
}
REFUSED = {"type", "account", "asset", "sequence", "exec_type", "order_id", "reason", "time"}
TRADE = {"last_price", "last_quantity", "trade_id", "liquidity"}
WITH_REASON = ("canceled", "expired", "rejected", "cancel_rejected", "amend_rejected")


def life(venue: Venue, feed: Subscription, account: str, asset: str = "ACME") -> list[tuple[object, ...]]:
    """Return what has happened to an account's orders: exec_type, order_status, cumulative, leaves, and the reason."""
    venue.settle(asset)
    last = venue.query.ask(type="sequences", account=account)["sequences"].get(f"execution/{account}/{asset}/", 0)
    return first_reports(feed, account, last, asset)


def first_reports(feed: Subscription, account: str, count: int, asset: str = "ACME") -> list[tuple[object, ...]]:
    """Return the same of an account's first reports, as soon as there are so many."""
    reports = feed.wait_for_count(f"execution/{account}/{asset}/", count)
    assert [report["sequence"] for report in reports] == list(range(1, len(reports) + 1))
    for report in reports:
        check_keys(report, account, asset)
    times = [report["time"] for report in reports]
    assert times == sorted(times)
    return [
        (
            report["exec_type"],
            report.get("order_status"),
            report.get("cumulative_quantity"),
            report.get("leaves_quantity"),
            *([report["reason"]] if "reason" in report else []),
        )
        for report in reports
    ]


def check_keys(report: Message, account: str, asset: str) -> None:
    """Fail where a report has other keys than its kind, or names somebody else."""
    assert (report["type"], report["account"], report["asset"]) == ("execution_report", account, asset)
    kind = report["exec_type"]
    if "order_status" not in report:
        assert kind in ("cancel_rejected", "amend_rejected")
        assert report.keys() == REFUSED
        return
    expected = COMMON | (TRADE if kind == "trade" else set())
    expected |= {"price"} if report["order_type"] in ("limit", "stop_limit") else set()
    expected |= {"stop_price"} if report["order_type"] in ("stop", "stop_limit") else set()
    expected |= {"reason"} if kind in WITH_REASON else set()
    expected |= {"reason"} & report.keys() if kind == "restated" else set()
    assert report.keys() == expected, kind
