"""The configuration: its defaults, its folders, and that every mistake is named with file, key, value and rule."""

import dataclasses
import re
import sys
import tomllib
import zoneinfo
from pathlib import Path
from typing import Any

import pytest

from exchange import config as configuration
from exchange.config import PROJECT, RISK_RULES, RULES, Config, ConfigError, Endpoints, load
from exchange.core.asset import MAX_INTEGER, MAX_QUANTITY, Asset, ScheduledChange
from exchange.core.requests import DefineAsset
from exchange.core.risk import RiskLimit
from exchange.pipeline import codec

ONE_ASSET = '[[asset]]\nasset = "ACME"\n'


def read(folder: Path, exchange: str = "", assets: str = ONE_ASSET) -> Config:
    """Load a configuration of these two texts."""
    (folder / "exchange.toml").write_text(exchange)
    (folder / "assets.toml").write_text(assets)
    return load(folder, folder / "var")


def mistakes(folder: Path, exchange: str = "", assets: str = ONE_ASSET) -> list[str]:
    """Return the mistakes in these two texts, the folder left out; empty where there is none."""
    try:
        read(folder, exchange, assets)
    except ConfigError as error:
        return [line.replace(f"{folder}/", "") for line in error.mistakes]
    return []


# -- exchange.toml -----------------------------------------------------------------------------------------------------

ADDRESS = 'must be an address like "tcp://127.0.0.1:5555", with a port of 1 to 65535'
IN_EXCHANGE = [
    ("[limits", "exchange.toml: not TOML: "),
    ("a = 1\na = 2", "exchange.toml: not TOML: "),
    (
        "[engine]\nx = 1",
        "exchange.toml: [engine]: no such section; there are endpoints, database, security, journal, limits",
    ),
    ("limits = 3", "exchange.toml: limits = 3: must be a table, [limits]"),
    ("[database]\nurl = 'x'", "exchange.toml: database.url = 'x': no such key; there are dsn"),
    ("[database]\ndsn = 5", "exchange.toml: database.dsn = 5: must be text: a PostgreSQL connection string, or empty"),
    ("[endpoints]\nquery = 5558", f"exchange.toml: endpoints.query = 5558: {ADDRESS}"),
    ("[endpoints]\nquery = ''", f"exchange.toml: endpoints.query = '': {ADDRESS}"),
    ("[endpoints]\nquery = 'ipc://x'", f"exchange.toml: endpoints.query = 'ipc://x': {ADDRESS}"),
    ("[endpoints]\nquery = 'tcp://127.0.0.1'", f"exchange.toml: endpoints.query = 'tcp://127.0.0.1': {ADDRESS}"),
    ("[endpoints]\nquery = 'tcp://127.0.0.1:0'", f"exchange.toml: endpoints.query = 'tcp://127.0.0.1:0': {ADDRESS}"),
    ("[endpoints]\nquery = 'tcp://lo:65536'", f"exchange.toml: endpoints.query = 'tcp://lo:65536': {ADDRESS}"),
    ("[endpoints]\nquery = 'tcp://lo:80 '", f"exchange.toml: endpoints.query = 'tcp://lo:80 ': {ADDRESS}"),
    (
        "[endpoints]\nquery = 'tcp://127.0.0.1:5555'",
        "exchange.toml: endpoints.query = 'tcp://127.0.0.1:5555': the port is that of endpoints.order_entry too",
    ),
    (
        "[endpoints]\nprivate = 'tcp://0.0.0.0:7000'",
        "exchange.toml: endpoints.private = 'tcp://0.0.0.0:7000': with security.mode = 'none' anybody who reaches it "
        "can trade for any account, so it must be a loopback address, or security.allow_remote = true",
    ),
    ("[endpoints]\nquery = 'tcp://*:7000'", "exchange.toml: endpoints.query = 'tcp://*:7000': with security.mode"),
    (
        "[endpoints]\nquery = 'tcp://[::]:7000'",
        "exchange.toml: endpoints.query = 'tcp://[::]:7000': with security.mode",
    ),
    (
        "[endpoints]\nquery = 'tcp://example:7000'",
        "exchange.toml: endpoints.query = 'tcp://example:7000': with security",
    ),
    ("[security]\nmode = 'tls'", "exchange.toml: security.mode = 'tls': must be \"none\""),
    ("[security]\nallow_remote = 1", "exchange.toml: security.allow_remote = 1: must be true or false"),
    (
        "[journal]\nsegment_bytes = 1000",
        "exchange.toml: journal.segment_bytes = 1000: must be a whole number of 1048576 to 1073741824",
    ),
    (
        "[limits]\nmax_backlog = 0",
        "exchange.toml: limits.max_backlog = 0: must be a whole number of 1 to 1099511627776",
    ),
    ("[limits]\nmax_backlog = -5", "exchange.toml: limits.max_backlog = -5: must be a whole number of 1 to"),
    ("[limits]\nmax_backlog = 1.0", "exchange.toml: limits.max_backlog = 1.0: must be a whole number of 1 to"),
    ("[limits]\nmax_backlog = true", "exchange.toml: limits.max_backlog = True: must be a whole number of 1 to"),
    ("[limits]\nmax_backlog = '9'", "exchange.toml: limits.max_backlog = '9': must be a whole number of 1 to"),
    (
        "[limits]\nmax_batch_requests = 10001",
        "exchange.toml: limits.max_batch_requests = 10001: must be a whole number of 1 to 10000",
    ),
    ("[limits]\nmax_remembered_ids = 0", "exchange.toml: limits.max_remembered_ids = 0: must be a whole number of 1"),
    (
        "[limits]\nretained_messages = 999",
        "exchange.toml: limits.retained_messages = 999: must be a whole number of 1000",
    ),
    ("[limits]\nretained_orders = 0", "exchange.toml: limits.retained_orders = 0: must be a whole number of 1"),
    ("[snapshots]\nrequests = 0", "exchange.toml: snapshots.requests = 0: must be a whole number of 1 to"),
    ("[snapshots]\nseconds = 0", "exchange.toml: snapshots.seconds = 0: must be a whole number of 1 to"),
    ("[clock]\nmode = 'slow'", 'exchange.toml: clock.mode = \'slow\': must be "system" or "manual"'),
    ("[limits]\nsend_queue = 0", "exchange.toml: limits.send_queue = 0: must be a whole number of 1 to 10000000"),
]


@pytest.mark.parametrize(("text", "mistake"), IN_EXCHANGE)
def test_a_mistake_in_exchange_toml_is_named(tmp_path: Path, text: str, mistake: str) -> None:
    (found,) = mistakes(tmp_path, exchange=text)
    assert found.startswith(mistake)


def test_every_key_of_exchange_toml_has_a_mistake_among_these() -> None:
    told = " ".join(mistake for _, mistake in IN_EXCHANGE)
    for section, (_, rules) in RULES.items():
        if section != "endpoints":  # whose keys share one rule
            assert all(f"{section}.{key} = " in told for key in rules)


@pytest.mark.parametrize(
    "text",
    [
        "[endpoints]\nquery = 'tcp://127.0.0.2:7000'",
        "[clock]\nmode = 'manual'",
        "[endpoints]\nquery = 'tcp://localhost:7000'",
        "[endpoints]\nquery = 'tcp://[::1]:7000'",
        "[endpoints]\nquery = 'tcp://*:65535'\n[security]\nallow_remote = true",
        "[journal]\nsegment_bytes = 1048576",
        "[snapshots]\nrequests = 1\nseconds = 1",
        "[database]\ndsn = 'host=db dbname=exchange'",
    ],
)
def test_what_is_right_is_taken(tmp_path: Path, text: str) -> None:
    assert mistakes(tmp_path, exchange=text) == []


# -- assets.toml -------------------------------------------------------------------------------------------------------

KEYS = (
    "asset, price_scale, quantity_scale, tick_size, lot_size, min_quantity, max_quantity, min_price, max_price, "
    "self_trade, reference_price, price_band, volatility_band, call_seconds, schedule, time_zone, trading_days, "
    "closed_dates, day_roll"
)
FRACTION = 'must be a fraction from 0 (no band) to 1, in whole millionths: 10 % is "0.1"'
TIME = 'must be a time of day, "HH:MM" or "HH:MM:SS", from 00:00 to 23:59:59'
ALONE = "must be left out where there is no schedule: without one the asset is open always"
REST = 'must be "closed" at the end, since there are days on which the schedule rests: it lasts until the next one'
BOTH = 'must be at least one "open" and one "closed"; "closed" ends the trading day'


def schedule(*changes: str) -> str:
    """Return a schedule, each change given as "HH:MM status"."""
    parts = [change.split() for change in changes]
    return "schedule = [" + ", ".join(f"{{ at = '{at}', status = '{status}' }}" for at, status in parts) + "]\n"


DAY = schedule("08:00 call", "09:00 open", "17:00 closed")
NAME_RULE = "must be 1 to 24 characters of A-Z 0-9 . _ -, not dots only"
CHANGES = 'must be changes such as { at = "09:00", status = "open" }, the status "call", "open", "closed" or "halted"'
DAYS = 'must be a list of days, each "mon", "tue", "wed", "thu", "fri", "sat" or "sun"'
IN_PRICE_UNITS = "must be a whole number, in price units: with price_scale = 2, 100.25 is 10025"
IN_QUANTITY_UNITS = "must be a whole number, in quantity units: with quantity_scale = 2, 1.5 is 150"
IN_ASSET = [
    ("x = 1", f"x = 1: no such key; there are {KEYS}"),
    ("price_scale = 'two'", "price_scale = 'two': Expected `int`, got `str`"),
    ("price_scale = 2.5", "price_scale = 2.5: Expected `int`, got `float`"),
    ("price_scale = true", "price_scale = True: Expected `int`, got `bool`"),
    ("price_scale = -1", "price_scale = -1: must be 0 to 18"),
    ("price_scale = 19", "price_scale = 19: must be 0 to 18"),
    ("quantity_scale = 19", "quantity_scale = 19: must be 0 to 18"),
    ("tick_size = 0", "tick_size = 0: must be 1 or more, in price units"),
    ("lot_size = 0", "lot_size = 0: must be 1 or more, in quantity units, at most 2^63 - 1"),
    ("min_quantity = 0", "min_quantity = 0: must be 1 or more, at most max_quantity"),
    ("min_quantity = 11\nmax_quantity = 10", "min_quantity = 11: must be 1 or more, at most max_quantity"),
    ("lot_size = 11\nmax_quantity = 10", "max_quantity = 10: must be lot_size or more, at most 2^63 - 1"),
    (f"max_quantity = {2**63}", f"max_quantity = {2**63}: must be lot_size or more, at most 2^63 - 1"),
    ("min_price = 0", "min_price = 0: must be 1 or more, at most max_price"),
    ("min_price = 11\nmax_price = 10", "min_price = 11: must be 1 or more, at most max_price"),
    ("tick_size = 11\nmax_price = 10", "max_price = 10: must be tick_size or more, at most 2^63 - 1"),
    (f"max_price = {2**63}", f"max_price = {2**63}: must be tick_size or more, at most 2^63 - 1"),
    (
        "tick_size = 2\nmin_price = 3\nmax_price = 3",
        "max_price = 3: must be such that there is a price: a multiple of tick_size, from min_price to max_price",
    ),
    (
        "lot_size = 10\nmin_quantity = 11\nmax_quantity = 19",
        "max_quantity = 19: must be such that there is a quantity: a multiple of lot_size, from min_quantity to max_q",
    ),
    ("self_trade = 'maybe'", "self_trade = 'maybe': Invalid enum value 'maybe'; must be \"prevent\" or \"allow\""),
    ("self_trade = true", 'self_trade = True: Expected `str`, got `bool`; must be "prevent" or "allow"'),
    ("reference_price = 100.25", f"reference_price = 100.25: Expected `int`, got `float`; {IN_PRICE_UNITS}"),
    ("tick_size = '0.05'", f"tick_size = '0.05': Expected `int`, got `str`; {IN_PRICE_UNITS}"),
    ("lot_size = 0.1", f"lot_size = 0.1: Expected `int`, got `float`; {IN_QUANTITY_UNITS}"),
    ("reference_price = -1", "reference_price = -1: must be 0 (none), or a multiple of tick_size from min_price to"),
    ("tick_size = 5\nreference_price = 7", "reference_price = 7: must be 0 (none), or a multiple of tick_size from"),
    ("max_price = 9\nreference_price = 10", "reference_price = 10: must be 0 (none), or a multiple of tick_size from"),
    ("price_band = '10%'", f"price_band = '10%': {FRACTION}"),
    ("price_band = true", f"price_band = True: {FRACTION}"),
    ("price_band = nan", f"price_band = nan: {FRACTION}"),
    ("price_band = '-0.1'", f"price_band = '-0.1': {FRACTION}"),
    ("price_band = 0.0000001", f"price_band = 1e-07: {FRACTION}"),
    ("price_band = '0.1000001'", f"price_band = '0.1000001': {FRACTION}"),
    ("price_band = 10", f"price_band = 10: {FRACTION}"),
    ("price_band = 1.000001", f"price_band = 1.000001: {FRACTION}"),
    ("volatility_band = 5", f"volatility_band = 5: {FRACTION}"),
    ("volatility_band = -0.1", f"volatility_band = -0.1: {FRACTION}"),
    ("volatility_band = [0.1]", f"volatility_band = [0.1]: {FRACTION}"),
    ("price_band_ppm = 5", f"price_band_ppm = 5: no such key; there are {KEYS}"),
    ("call_seconds = 0", "call_seconds = 0: must be 1 to 86,400"),
    ("call_seconds = 86401", "call_seconds = 86401: must be 1 to 86,400"),
    ("call_seconds = '2m'", "call_seconds = '2m': Expected `int`, got `str`; must be a whole number of seconds"),
    ("schedule = '09:00'", f"schedule = '09:00': Expected `array`, got `str`; {CHANGES}"),
    (
        "schedule = [{ at = '09:00' }]",
        f"schedule = [{{'at': '09:00'}}]: Object missing required field `status` - at `$[0]`; {CHANGES}",
    ),
    (
        schedule("09:00 opened"),
        "schedule = [{'at': '09:00', 'status': 'opened'}]: Invalid enum value 'opened' - at `$[0].status`; " + CHANGES,
    ),
    (
        "schedule = [{ at = '9', status = 'open', x = 1 }]",
        "schedule = [{'at': '9', 'status': 'open', 'x': 1}]: Object c",
    ),
    (schedule("9:00 open", "17:00 closed"), f"schedule.at = '9:00': {TIME}"),
    (schedule("09:00 open", "24:00 closed"), f"schedule.at = '24:00': {TIME}"),
    (schedule("09:00 open", "17:00:60 closed"), f"schedule.at = '17:00:60': {TIME}"),
    (schedule("09:00 open", "08:00 closed"), "schedule.at = '08:00': must be later than the one before it, '09:00'"),
    (
        schedule("09:00 open", "09:00:00 closed"),
        "schedule.at = '09:00:00': must be later than the one before it, '09:00'",
    ),
    (
        schedule("08:00 call", "09:00 call", "10:00 open", "17:00 closed"),
        "schedule.status = 'call': must be another at '09:00' than at '08:00' before it",
    ),
    (
        schedule("08:00 call", "09:00 open", "17:00 closed", "23:00 call"),
        "schedule.status = 'call': must be another at '23:00' than at '08:00', its next: a call ends in an \"open\" or",
    ),
    (schedule("09:00 open"), f"schedule = 'open': {BOTH}"),
    (schedule("08:00 call", "09:00 closed"), f"schedule = 'call, closed': {BOTH}"),
    (schedule("17:00 closed", "18:00 open") + "closed_dates = ['2026-12-25']", f"schedule.status = 'open': {REST}"),
    (schedule("17:00 closed", "18:00 open") + "trading_days = ['mon']", f"schedule.status = 'open': {REST}"),
    ("time_zone = 'Mars/Olympus'", "time_zone = 'Mars/Olympus': must be a name of the IANA database, such as \"Eur"),
    ("time_zone = 'America'", "time_zone = 'America': must be a name of the IANA database"),
    ("time_zone = '../UTC'", "time_zone = '../UTC': must be a name of the IANA database"),
    ("time_zone = ''", "time_zone = '': must be a name of the IANA database"),
    (DAY + "trading_days = []", "trading_days = (): must be one day or more, each once"),
    (DAY + "trading_days = ['mon', 'mon']", "trading_days = ('mon', 'mon'): must be one day or more, each once"),
    (DAY + "trading_days = ['Monday']", f"trading_days = ['Monday']: Invalid enum value 'Monday' - at `$[0]`; {DAYS}"),
    ("trading_days = ['mon']", f"trading_days = ('mon',): {ALONE}"),
    ("closed_dates = ['2026-12-25']", f"closed_dates = ('2026-12-25',): {ALONE}"),
    (DAY + "closed_dates = ['2026-02-29']", "closed_dates = '2026-02-29': must be a date that there is"),
    (DAY + "closed_dates = ['25.12.2026']", "closed_dates = '25.12.2026': must be a date, \"YYYY-MM-DD\""),
    (DAY + "closed_dates = [2026]", "closed_dates = [2026]: Expected `str`, got `int`"),
    (
        DAY + "closed_dates = ['2026-12-25', '2026-12-25']",
        "closed_dates = ('2026-12-25', '2026-12-25'): must be dates, each once, 500 at most",
    ),
    ("day_roll = '24:00'", f"day_roll = '24:00': {TIME}"),
    (
        DAY + "day_roll = '17:00'",
        "day_roll = '17:00': must be left out where there is a schedule: a \"closed\" ends the",
    ),
]


@pytest.mark.parametrize(("text", "mistake"), IN_ASSET)
def test_a_mistake_in_an_asset_is_named(tmp_path: Path, text: str, mistake: str) -> None:
    (found,) = mistakes(tmp_path, assets=ONE_ASSET + text)
    assert found.startswith(f"assets.toml: [[asset]] ACME: {mistake}")


def test_every_key_of_an_asset_has_a_mistake_among_these() -> None:
    told = "\n" + "\n".join(mistake for _, mistake in IN_ASSET)
    assert all(f"\n{key} = " in told for key in KEYS.split(", ") if key != "asset")


@pytest.mark.parametrize("name", ["", "acme", "A" * 25, "A/B", "A B", "..", "ACME\\n"])
def test_an_assets_name_has_a_rule(tmp_path: Path, name: str) -> None:
    (found,) = mistakes(tmp_path, assets=f'[[asset]]\nasset = "{name}"')
    assert found.endswith(f": {NAME_RULE}")


@pytest.mark.parametrize("name", ["A", "A" * 24, "BTC-USD", "ES.H27", "A_1", "7"])
def test_a_name_within_the_rule_is_taken(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, assets=f'[[asset]]\nasset = "{name}"').assets == (Asset(asset=name),)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "assets.toml: asset: there must be at least one table [[asset]]"),
        ("asset = []", "assets.toml: asset: there must be at least one table [[asset]]"),
        ("[asset]\nasset = 'A'", "assets.toml: asset: there must be at least one table [[asset]]"),
        ("asset = [1]", "assets.toml: asset: there must be at least one table [[asset]]"),
        ("[[asset]", "assets.toml: not TOML: "),
        ("assets = 1\n" + ONE_ASSET, "assets.toml: assets: no such key; each asset is a table [[asset]]"),
        ("[[asset]]\ntick_size = 1", "assets.toml: [[asset]] number 1: asset: is missing; every asset has a name"),
        ("[[asset]]\nasset = 5", "assets.toml: [[asset]] 5: asset = 5: Expected `str`, got `int`"),
        (
            ONE_ASSET * 2,
            "assets.toml: [[asset]] ACME: asset = 'ACME': there is one of that name already",
        ),
    ],
)
def test_a_mistake_in_assets_toml_as_a_whole_is_named(tmp_path: Path, text: str, mistake: str) -> None:
    (found,) = mistakes(tmp_path, assets=text)
    assert found.startswith(mistake)


def test_the_limits_of_an_asset_are_taken(tmp_path: Path) -> None:
    limits = f"lot_size = {MAX_QUANTITY}\nmax_quantity = {MAX_INTEGER}\ntick_size = {MAX_INTEGER}"
    text = f"price_scale = 18\n{limits}\nself_trade = 'allow'"
    (asset,) = read(tmp_path, assets=ONE_ASSET + text).assets
    assert (asset.lot_size, asset.tick_size, asset.self_trade) == (MAX_QUANTITY, MAX_INTEGER, "allow")


def test_a_definition_with_everything_is_taken(tmp_path: Path) -> None:
    text = f"""{DAY}
        reference_price = 10000
        price_band = "0.10"
        volatility_band = 0.000001
        call_seconds = 60
        time_zone = "Europe/Berlin"
        trading_days = ["mon", "fri"]
        closed_dates = ["2026-12-25", 2028-02-29]
        """
    (asset,) = read(tmp_path, assets=ONE_ASSET + text).assets
    assert asset == Asset(
        asset="ACME",
        reference_price=10_000,
        price_band_ppm=100_000,
        volatility_band_ppm=1,
        call_seconds=60,
        schedule=(
            ScheduledChange("08:00", "call"),
            ScheduledChange("09:00", "open"),
            ScheduledChange("17:00", "closed"),
        ),
        time_zone="Europe/Berlin",
        trading_days=("mon", "fri"),
        closed_dates=("2026-12-25", "2028-02-29"),
    )


@pytest.mark.parametrize(
    ("written", "millionths"), [("0", 0), ("'0.0'", 0), ("'0.000001'", 1), ("0.1", 100_000), ("1", 1_000_000)]
)
def test_a_band_is_exact(tmp_path: Path, written: str, millionths: int) -> None:
    (asset,) = read(tmp_path, assets=f"{ONE_ASSET}price_band = {written}\nvolatility_band = {written}").assets
    assert (asset.price_band_ppm, asset.volatility_band_ppm) == (millionths, millionths)


@pytest.mark.parametrize(
    "text",
    [
        schedule("00:00 closed", "00:05 open"),
        schedule("17:00 closed", "18:00 call", "18:30 open"),
        schedule("08:00 call", "09:00 open", "12:00 call", "12:05 open", "17:30 call", "17:35 closed"),
        schedule("09:00:30 open", "12:00 halted", "13:00 open", "17:00 closed"),
        "schedule = [{ at = 09:00:00, status = 'open' }, { at = 17:00:00, status = 'closed' }]",
        "time_zone = 'America/Argentina/Buenos_Aires'\nday_roll = 17:00:00",
        "time_zone = 'Etc/GMT+5'\nday_roll = '17:00'",
    ],
)
def test_sessions_that_are_right_are_taken(tmp_path: Path, text: str) -> None:
    assert mistakes(tmp_path, assets=ONE_ASSET + text) == []


def test_without_time_zone_data_utc_is_left_and_what_to_install_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tzdata", None)  # nor the package of that name
    zoneinfo.reset_tzpath([str(tmp_path / "nothing")])
    zoneinfo.ZoneInfo.clear_cache()
    try:
        assert mistakes(tmp_path, assets=ONE_ASSET + "time_zone = 'UTC'") == []
        (found,) = mistakes(tmp_path, assets=ONE_ASSET + "time_zone = 'Europe/Berlin'")
    finally:
        zoneinfo.reset_tzpath()
    assert found.startswith(
        "assets.toml: [[asset]] ACME: time_zone = 'Europe/Berlin': must be \"UTC\": this system has"
    )
    assert "install it (the package tzdata" in found


def test_the_example_of_a_schedule_in_the_projects_own_file_is_sound(tmp_path: Path) -> None:
    text = (PROJECT / "config" / "assets.toml").read_text()
    _, after = text.split("were these lines not comments:\n")
    example = "\n".join(line.removeprefix("# ") for line in after.split("\n\n")[0].splitlines())
    (asset,) = read(tmp_path, assets=ONE_ASSET + example).assets
    assert asset.has_sessions
    assert asset.price_band_ppm == 200_000
    assert not any(asset.has_sessions for asset in load(PROJECT / "config", tmp_path).assets), "its assets have none"


def test_a_definition_journaled_before_there_were_sessions_is_one_without() -> None:
    fields = ("asset", "price_scale", "quantity_scale", "tick_size", "lot_size")
    before = {"asset": "ACME", **dict.fromkeys(fields[1:], 1), "min_quantity": 1, "max_quantity": 9, "min_price": 1}
    record = ["ACME", 1, 1000, "", ["define_asset", before | {"max_price": 9, "self_trade": "allow"}]]
    request = codec.decode_record(codec.encode(record)).request
    assert isinstance(request, DefineAsset)
    assert request.definition == Asset(
        asset="ACME", price_scale=1, quantity_scale=1, max_quantity=9, max_price=9, self_trade="allow"
    )
    assert not request.definition.has_sessions
    assert request.definition.mistakes() == []


def test_the_longest_definition_has_its_bound() -> None:
    dates = tuple(f"2026-{number // 28 % 12 + 1:02}-{number % 28 + 1:02}" for number in range(501))
    asset = Asset(asset="A", schedule=(ScheduledChange("09:00", "open"),) * 51, closed_dates=dates)
    assert ("schedule", "51 changes", "50 at most") in asset.mistakes()
    assert "500 at most" in str(asset.mistakes())


# -- risk limits -------------------------------------------------------------------------------------------------------

ENTRY = "exchange.toml: [[risk_limit]] number 1: "
IN_RISK_LIMITS = [
    ("risk_limit = 5", "exchange.toml: risk_limit = 5: each risk limit is a table [[risk_limit]]"),
    ("[risk_limit]\nmax_open_orders = 1", "exchange.toml: risk_limit = {'max_open_orders': 1}: each risk limit is a"),
    (
        "[[risk_limit]]\nmax_orders = 1",
        f"{ENTRY}max_orders = 1: no such key; there are account, asset, max_order_quantity",
    ),
    ("[[risk_limit]]\naccount = 'Alice'", f"{ENTRY}account = 'Alice': must be 1 to 32 characters of a-z 0-9 _ -; left"),
    ("[[risk_limit]]\naccount = ''", f"{ENTRY}account = '': must be 1 to 32 characters"),
    ("[[risk_limit]]\nasset = 5", f"{ENTRY}asset = 5: must be an asset's name; left out, it is every asset"),
    ("[[risk_limit]]\nasset = 'X'\nmax_open_orders = 1", f"{ENTRY}asset = 'X': must be one of assets.toml's: ACME"),
    ("[[risk_limit]]\nmax_order_quantity = -1", f"{ENTRY}max_order_quantity = -1: must be a whole number of 0 to"),
    ("[[risk_limit]]\nmax_order_notional = 1.5", f"{ENTRY}max_order_notional = 1.5: must be a whole number of 0 to"),
    ("[[risk_limit]]\nmax_open_orders = true", f"{ENTRY}max_open_orders = True: must be a whole number of 0 to"),
    ("[[risk_limit]]\nmax_requests_per_second = 0", f"{ENTRY}max_requests_per_second = 0: must be a whole number of 1"),
    (
        "[[risk_limit]]\naccount = 'a'",
        f"{ENTRY}limits nothing; there are max_order_quantity, max_order_notional, max_op",
    ),
    (
        "[[risk_limit]]\nasset = 'ACME'\nmax_requests_per_second = 5",
        f"{ENTRY}max_requests_per_second = 5: is of an account's requests over all assets: it can't stand",
    ),
    (
        "[[risk_limit]]\naccount = 'a'\nmax_open_orders = 1\n[[risk_limit]]\naccount = 'a'\nmax_open_orders = 2",
        "exchange.toml: [[risk_limit]] number 2: max_open_orders = 2: number 1 limits that for the same",
    ),
]


@pytest.mark.parametrize(("text", "mistake"), IN_RISK_LIMITS)
def test_a_mistake_in_a_risk_limit_is_named(tmp_path: Path, text: str, mistake: str) -> None:
    (found,) = mistakes(tmp_path, exchange=text)
    assert found.startswith(mistake)


def test_every_key_of_a_risk_limit_has_a_mistake_among_these() -> None:
    assert all(any(f": {key} = " in mistake for _, mistake in IN_RISK_LIMITS) for key in RISK_RULES)
    assert list(RISK_RULES) == list(RiskLimit.__struct_fields__)


def test_risk_limits_are_taken_and_there_are_none_by_default(tmp_path: Path) -> None:
    assert read(tmp_path).risk_limits == ()
    comments = (PROJECT / "config" / "exchange.toml").read_text().split("# [[risk_limit]]", 1)[1]
    text = "\n".join(line.removeprefix("# ").removeprefix("#") for line in f"[[risk_limit]]{comments}".splitlines())
    assert read(tmp_path, text, '[[asset]]\nasset = "BTC-USD"').risk_limits == (
        RiskLimit(
            account="alice",
            asset="BTC-USD",
            max_order_quantity=100_000_000,
            max_order_notional=5_000_000_000,
            max_open_orders=200,
        ),
        RiskLimit(account="alice", max_requests_per_second=50),
    )


def test_a_risk_limits_asset_is_not_looked_for_in_a_file_that_could_not_be_read(tmp_path: Path) -> None:
    found = mistakes(tmp_path, "[[risk_limit]]\nasset = 'ACME'\nmax_open_orders = 1", "[[asset]")
    assert len(found) == 1
    assert found[0].startswith("assets.toml: not TOML")


# -- the files ---------------------------------------------------------------------------------------------------------


def test_all_mistakes_of_both_files_are_told_in_one_go(tmp_path: Path) -> None:
    exchange = "[limits]\nmax_backlog = 0\nsend_queue = 'x'\n[database]\nurl = ''\n[more]"
    assets = "[[asset]]\nasset = 'A'\ntick_size = 0\nmin_price = 0\n[[asset]]\nasset = 'b'\nx = 1"
    with pytest.raises(ConfigError) as error:
        read(tmp_path, exchange, assets)
    assert str(error.value).splitlines() == error.value.mistakes, "a line each"
    found = mistakes(tmp_path, exchange, assets)
    assert [re.sub(r": (must|no such).*", "", line) for line in found] == [
        "exchange.toml: [more]",
        "exchange.toml: database.url = ''",
        "exchange.toml: limits.max_backlog = 0",
        "exchange.toml: limits.send_queue = 'x'",
        "assets.toml: [[asset]] A: tick_size = 0",
        "assets.toml: [[asset]] A: min_price = 0",
        "assets.toml: [[asset]] b: x = 1",
        "assets.toml: [[asset]] b: asset = 'b'",
    ]


def test_one_mistake_does_not_hide_another_that_needs_other_values(tmp_path: Path) -> None:
    exchange = "[limits]\nmax_backlog = 0\n[endpoints]\nquery = 'tcp://0.0.0.0:5558'\nprivate = 'tcp://127.0.0.1:5555'"
    found = mistakes(tmp_path, exchange, "[[asset]]\nasset = 'A'\ntick_size = 0\nmin_price = 'x'")
    assert [re.sub(r": (must|with|the port|Expected).*", "", line) for line in found] == [
        "exchange.toml: limits.max_backlog = 0",
        "exchange.toml: endpoints.private = 'tcp://127.0.0.1:5555'",
        "exchange.toml: endpoints.query = 'tcp://0.0.0.0:5558'",
        "assets.toml: [[asset]] A: min_price = 'x'",
        "assets.toml: [[asset]] A: tick_size = 0",
    ]


def test_missing_files_are_told_with_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "nowhere", tmp_path)
    assert error.value.mistakes == [
        f"{tmp_path / 'nowhere' / name}: there is no such file; set EXCHANGE_CONFIG to the folder that holds it"
        for name in ("exchange.toml", "assets.toml")
    ]


def test_a_file_that_is_not_utf8_is_not_toml(tmp_path: Path) -> None:
    (tmp_path / "exchange.toml").write_bytes(b'[database]\ndsn = "\xff"')
    (tmp_path / "assets.toml").write_text(ONE_ASSET)
    with pytest.raises(ConfigError, match=r"exchange\.toml: not TOML"):
        load(tmp_path, tmp_path)


def test_a_folder_in_a_files_place_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "exchange.toml").mkdir()
    (tmp_path / "assets.toml").write_text(ONE_ASSET)
    with pytest.raises(ConfigError, match=r"exchange\.toml: can't be read: Is a directory"):
        load(tmp_path, tmp_path)


# -- defaults ----------------------------------------------------------------------------------------------------------


def sections(config: Config) -> dict[str, Any]:
    return {name: dataclasses.asdict(getattr(config, name)) for name in RULES}


def test_what_stands_in_config_exchange_toml_is_the_default(tmp_path: Path) -> None:
    written = tomllib.loads((PROJECT / "config" / "exchange.toml").read_text())
    assert written == sections(read(tmp_path)), "every key with its default, and none besides"


def test_the_projects_own_configuration_is_sound() -> None:
    config = load(PROJECT / "config", PROJECT / "var")
    assert [asset.asset for asset in config.assets] == ["ACME", "BTC-USD", "ES.H27", "RAIN-TOMORROW", "GOOG", "AAPL"]
    assert config.asset("RAIN-TOMORROW").max_price == 99


def test_the_comment_in_config_assets_toml_tells_each_key_and_the_defaults() -> None:
    comment = (PROJECT / "config" / "assets.toml").read_text().split("[[asset]]")[0]
    told = re.findall(r"^# ([a-z_]+(?:, [a-z_]+)*)  ", comment, re.MULTILINE)
    assert [key for keys in told for key in keys.split(", ")] == [*KEYS.split(", "), "host", "port"]
    asset = Asset(asset="A")
    assert (asset.tick_size, asset.lot_size, asset.self_trade) == (1, 1, "prevent")
    assert "(defaults: 1, 2^53 - 1, 1, 2^63 - 1)" in comment
    assert (asset.call_seconds, asset.time_zone, asset.day_roll) == (120, "UTC", "00:00")
    assert all(f"(default {value})" in comment for value in ("120", '"UTC"', '"00:00"'))
    assert (asset.reference_price, asset.price_band_ppm, asset.volatility_band_ppm) == (0, 0, 0)
    limits = (asset.min_quantity, asset.max_quantity, asset.min_price, asset.max_price)
    assert limits == (1, 2**53 - 1, 1, 2**63 - 1)


def test_no_endpoint_of_the_defaults_can_be_reached_from_elsewhere() -> None:
    assert all(endpoint.startswith("tcp://127.0.0.1:") for endpoint in vars(Endpoints()).values())


def test_an_asset_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"assets\.toml: no asset 'NONE'; there are ACME"):
        read(tmp_path).asset("NONE")


# -- folders -----------------------------------------------------------------------------------------------------------


def test_the_environment_says_where_configuration_and_data_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exchange.toml").write_text("")
    (tmp_path / "assets.toml").write_text(ONE_ASSET)
    monkeypatch.setenv("EXCHANGE_CONFIG", str(tmp_path))
    monkeypatch.setenv("EXCHANGE_DATA", str(tmp_path / "data"))
    config = load()
    assert (config.folder, config.data) == (tmp_path, tmp_path / "data")
    assert [asset.asset for asset in config.assets] == ["ACME"]


@pytest.mark.parametrize("unset", [None, ""])
def test_without_it_they_are_in_the_checkout(unset: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EXCHANGE_CONFIG", "EXCHANGE_DATA"):
        monkeypatch.delenv(name, raising=False) if unset is None else monkeypatch.setenv(name, unset)
    config = load()
    assert (config.folder, config.data) == (PROJECT / "config", PROJECT / "var")


def test_a_folder_given_is_before_the_environments_and_is_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(tmp_path)
    monkeypatch.setenv("EXCHANGE_CONFIG", "/nowhere")
    monkeypatch.chdir(tmp_path)
    config = load(Path(), Path("data"))
    assert (config.folder, config.data) == (tmp_path, tmp_path / "data")


def test_sockets_are_in_the_data_folder_unless_its_path_is_too_long_for_them(tmp_path: Path) -> None:
    short = dataclasses.replace(read(tmp_path), data=Path("/d"))
    assert short.orders_endpoint("ACME") == "ipc:///d/run/orders-ACME"
    long = dataclasses.replace(short, data=Path("/" + "d" * 200))
    longest = long.events_endpoint("A" * 24).removeprefix("ipc://")
    assert len(longest) <= 107, "the bytes of a Unix socket's path"
    assert long.run_folder != dataclasses.replace(short, data=Path("/" + "e" * 200)).run_folder
    assert configuration.LONGEST_RUN_FOLDER + len("/event-log-" + "A" * 24) <= 107
