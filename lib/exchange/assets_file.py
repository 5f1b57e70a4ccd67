"""`assets.toml`: the definitions of what is traded, each value checked by its rule, every mistake named.

Its keys are the fields of `Asset`, but for the bands, which it gives as fractions.
"""

import datetime
import re
import zoneinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from exchange.core.asset import MILLION, MOST_ASSETS, Asset

BANDS = {"price_band": "price_band_ppm", "volatility_band": "volatility_band_ppm"}
FIELDS: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(Asset)}
KEYS = tuple({field: key for key, field in BANDS.items()}.get(field, field) for field in FIELDS)
PLACE_KEYS = ("host", "port")  # of an exchange on several hosts; read elsewhere (`hosts.py`)
PRICE_SHAPE = "a whole number, in price units: with price_scale = 2, 100.25 is 10025"
QUANTITY_SHAPE = "a whole number, in quantity units: with quantity_scale = 2, 1.5 is 150"
SHAPES = {  # what a key takes, said where its value is of another kind
    **dict.fromkeys(("tick_size", "min_price", "max_price", "reference_price"), PRICE_SHAPE),
    **dict.fromkeys(("lot_size", "min_quantity", "max_quantity"), QUANTITY_SHAPE),
    "self_trade": '"prevent" or "allow"',
    "call_seconds": "a whole number of seconds",
    "schedule": 'changes such as { at = "09:00", status = "open" }, the status "call", "open", "closed" or "halted"',
    "trading_days": 'a list of days, each "mon", "tue", "wed", "thu", "fri", "sat" or "sun"',
    "closed_dates": 'a list of dates, each "YYYY-MM-DD"',
}
FRACTION = re.compile(r"\d{1,9}(\.\d{1,9})?\Z", re.ASCII)
FRACTION_RULE = 'must be a fraction from 0 (no band) to 1, in whole millionths: 10 % is "0.1"'
ZONE_RULE = 'a name of the IANA database, such as "Europe/Berlin"'
NO_ZONES_RULE = (
    '"UTC": this system has no time zone data; install it (the package tzdata, with the system\'s package manager or '
    "with pip) for all others"
)


def read_assets(path: Path, given: dict[str, Any], mistakes: list[str]) -> tuple[Asset, ...]:
    """Return the definitions in the file's tables `given`; what is wrong with them is added to `mistakes`."""
    for key in given:
        if key != "asset":
            mistakes.append(f"{path}: {key}: no such key; each asset is a table [[asset]]")
    tables = given.get("asset", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        mistakes.append(f"{path}: asset: there must be at least one table [[asset]]")
        return ()
    if len(tables) > MOST_ASSETS:
        mistakes.append(f"{path}: {len(tables)} tables [[asset]]: must be at most {MOST_ASSETS}, a process each")
    assets: dict[str, Asset] = {}
    for number, table in enumerate(tables, 1):
        name = table.get("asset", f"number {number}")
        where = f"{path}: [[asset]] {name if str(name).isprintable() else repr(name)}"
        asset = _read_asset(where, table, mistakes)
        if asset is None:
            continue
        mistakes.extend(f"{where}: {key} = {value!r}: must be {rule}" for key, value, rule in _mistakes(asset))
        if asset.asset in assets:
            mistakes.append(f"{where}: asset = {asset.asset!r}: there is one of that name already")
        assets[asset.asset] = asset
    return tuple(assets.values())


def _read_asset(where: str, table: dict[str, Any], mistakes: list[str]) -> Asset | None:
    """Return the definition that the table's sound values make, None where not even its name is one."""
    sound: dict[str, Any] = {}
    if "asset" not in table:
        mistakes.append(f"{where}: asset: is missing; every asset has a name")
    for key, value in table.items():
        if key not in KEYS:
            mistakes.append(f"{where}: {key} = {value!r}: no such key; there are {', '.join((*KEYS, *PLACE_KEYS))}")
            continue
        field = BANDS.get(key, key)
        try:
            sound[field] = _millionths(value) if key in BANDS else msgspec.convert(_plain(key, value), FIELDS[field])
        except ValueError as error:  # msgspec's too
            rule = f"; must be {SHAPES[key]}" if key in SHAPES else ""
            mistakes.append(f"{where}: {key} = {value!r}: {error}{rule}")
    return Asset(**sound) if "asset" in sound else None


def _millionths(value: object) -> int:
    """Return a fraction as a whole number of millionths, exactly. Raises ValueError with the rule."""
    if type(value) not in (int, float) and not (isinstance(value, str) and FRACTION.match(value)):
        raise ValueError(FRACTION_RULE)
    exact = Decimal(str(value)) * MILLION  # a float's text is the shortest that reads as it: what the file says
    if not exact.is_finite() or exact != exact.to_integral_value() or not 0 <= exact <= MILLION:
        raise ValueError(FRACTION_RULE)
    return int(exact)


def _plain(key: str, value: Any) -> Any:
    """Return a value with TOML's own dates and times as text, where an operator has left out the quotes."""
    if key == "closed_dates" and isinstance(value, list):
        return [each.isoformat() if type(each) is datetime.date else each for each in value]
    if key == "day_roll" and isinstance(value, datetime.time):
        return value.isoformat()
    if key == "schedule" and isinstance(value, list):
        return [
            {name: each.isoformat() if isinstance(each, datetime.time) else each for name, each in change.items()}
            if isinstance(change, dict)
            else change
            for change in value
        ]
    return value


def _mistakes(asset: Asset) -> list[tuple[str, object, str]]:
    """Return the mistakes that a definition itself knows of, and those that need the calendar."""
    found = asset.mistakes()
    named = {key for key, _, _ in found}
    if "closed_dates" not in named:
        for date in asset.closed_dates:
            try:
                datetime.date.fromisoformat(date)
            except ValueError:
                found.append(("closed_dates", date, "a date that there is"))
    if "time_zone" not in named and not _is_zone(asset.time_zone):
        found.append(("time_zone", asset.time_zone, ZONE_RULE if _is_zone("Europe/Berlin") else NO_ZONES_RULE))
    return found


def _is_zone(name: str) -> bool:
    """Return whether the system knows the time zone. UTC needs no data."""
    if name == "UTC":
        return True
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of names, such as "America"
        return False
    return True
