"""The database against an asset's events: each row there has to be, none that there need not be, up to `applied`."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec

from exchange.audit.conservation import ENDS, LIVE, Conservation
from exchange.audit.database import DEFINITION_COLUMNS, Applied, Database
from exchange.audit.findings import Difference
from exchange.audit.rows import COLUMNS, KEYS, ExpectedRows, Times
from exchange.audit.states import StatesAside
from exchange.audit.values import shown
from exchange.core.asset import Asset
from exchange.core.events import AssetDefined, EventRecord
from exchange.core.requests import DefineAsset

CHECK = "database"
REMEDY = (
    "the database can be made again: stop the logger, drop the exchange's tables or restore a backup, and start the "
    "logger, which stores what is missing from the event logs"
)
TABLES = tuple(table for table in COLUMNS if table != "order_states")


class Stored:
    """Compares an asset's rows with those that its event records have to have led to, in lockstep.

    With `whole` the records begin with the first; else the rows of earlier ones are not looked at.
    """

    def __init__(self, database: Database, asset: str, whole: bool) -> None:
        self.database = database
        self.asset = asset
        self.whole = whole
        self.applied = database.applied.get(asset, Applied())
        self.expected = ExpectedRows(asset)
        self.streams: dict[str, Iterator[bytes]] = {}
        self.rows = 0
        self.definition: EventRecord | None = None  # the last record that defined the asset
        self.states = StatesAside(database, asset) if whole else None
        if whole:
            for table in TABLES:
                self.streams[table] = database.rows(table, asset)

    def begin(self) -> None:
        """Begin to read what takes longest. `end` must follow."""
        if self.states is not None:
            self.states.begin()

    def end(self) -> None:
        if self.states is not None:
            self.states.end()

    def take(self, record: EventRecord) -> None:
        """Compare the rows of the next record, which is up to `applied`. Raises Difference."""
        streams = self.streams
        for table, line in self.expected.of(record):
            stream = streams.get(table)
            if stream is None:
                first = int(line.split(b"\t")[COLUMNS[table].index(KEYS[table])])
                stream = streams[table] = self.database.rows(table, self.asset, first)
            found = next(stream, None)
            if found != line:
                raise self._row_difference(table, line, found)
            self.rows += 1
        if type(record.request) is DefineAsset and any(type(event) is AssetDefined for event in record.events):
            self.definition = record

    def finish(self, last: EventRecord | None, fold: Conservation) -> None:
        """Compare what is there once, as of `applied`, and look for rows too many. Raises Difference.

        `last` is the record that `applied` names (None: nothing is stored); `fold` has it as its last.
        """
        for table, stream in self.streams.items():
            found = next(stream, None)
            if found is not None:
                raise self._row_difference(table, None, found)
        expected = Applied()
        if last is not None:
            assert fold.event_sequence is not None, "a record gives it"
            trade_id = self.applied.trade_id if fold.trade_id is None else fold.trade_id
            time = Times().single(last.time)
            expected = Applied(last.sequence, fold.event_sequence, trade_id, last.time, time)
        if self.applied != expected:
            raise self._difference(
                "applied", self.asset, "the row of applied differs", shown(expected), shown(self.applied)
            )
        self._check_definition()
        if fold.keep_states:
            self._check_states(fold)

    def _check_definition(self) -> None:
        found = self.database.definition(self.asset)
        if self.definition is None:
            if self.whole and found is not None:
                raise self._difference("assets", self.asset, "a row too many", "no row", shown(found))
            return
        if found is None:
            raise self._difference("assets", self.asset, "a row is missing", shown(self.definition.request), "no row")
        expected = definition_row(self.definition)
        columns = (*DEFINITION_COLUMNS, "price_unit", "quantity_unit", "defined_at")
        differing = [
            (name, one, other) for name, one, other in zip(columns, expected, found, strict=True) if one != other
        ]
        if differing:
            raise self._difference(
                "assets",
                self.asset,
                "a row differs",
                ", ".join(f"{name} {one!r}" for name, one, _ in differing),
                ", ".join(f"{name} {other!r}" for name, _, other in differing),
            )

    def _check_states(self, fold: Conservation) -> None:
        """Compare the view order_states with what became of each order."""
        fold.note_live()
        self.rows += len(fold.order_ids)
        start = 0
        if self.states is not None:
            first = self.states.first_difference(self._states(fold, 0))
            if first is None:
                return
            start = first
        elif not fold.order_ids:
            return
        # All that is not known to be as expected, row by row.
        before = fold.order_ids[start - 1] + 1 if start else 0 if self.whole else fold.order_ids[0]
        rows = self.database.rows("order_states", self.asset, before)
        for line in self._states(fold, start):
            found = next(rows, None)
            if found != line:
                raise self._row_difference("order_states", line, found)
        found = next(rows, None)
        if found is not None:
            raise self._row_difference("order_states", None, found)

    def _states(self, fold: Conservation, start: int) -> Iterator[bytes]:
        """Yield the rows of the view that there have to be, from the order at a place on."""
        asset = self.asset
        columns = zip(fold.order_ids, fold.ends, fold.traded, fold.leaves, strict=True)
        for order_id, end, traded, leaves in islice(columns, start, None):
            status = ENDS[end] if end != LIVE else "partially_filled" if traded else "new"
            yield f"{asset}\t{order_id}\t{status}\t{traded}\t{leaves}\n".encode()

    # -- differences ---------------------------------------------------------------------------------------------------

    def _row_difference(self, table: str, expected: bytes | None, found: bytes | None) -> Difference:
        one, other = columns_of(expected), columns_of(found)
        place = COLUMNS[table].index(KEYS[table])
        if one and other and one[place] == other[place] and len(one) == len(other):
            differing = [number for number, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
            return self._difference(
                table,
                one[place],
                "a row differs",
                ", ".join(f"{COLUMNS[table][number]} {one[number]}" for number in differing),
                ", ".join(f"{COLUMNS[table][number]} {other[number]}" for number in differing),
            )
        if not other or (one and int(one[place]) < int(other[place])):
            return self._difference(table, one[place], "a row is missing", described(table, one), "no row")
        return self._difference(table, other[place], "a row too many", "no row", described(table, other))

    def _difference(self, table: str, key: str, what: str, expected: str, found: str) -> Difference:
        return Difference(
            CHECK,
            f"{table}: {what}",
            asset=self.asset,
            table=table,
            key=key,
            expected=expected,
            found=found,
            remedy=REMEDY,
        )


def definition_row(record: EventRecord) -> tuple[Any, ...]:
    """Return the row of `assets` that a definition has to have led to, as Database.definition gives it."""
    request = record.request
    assert type(request) is DefineAsset, "only a definition defines"
    definition: Asset = request.definition
    values: dict[str, Any] = {name: getattr(definition, name) for name in Asset.__struct_fields__}
    for name in ("reference_price", "price_band_ppm", "volatility_band_ppm"):
        values[name] = values[name] or None
    values["schedule"] = msgspec.to_builtins(list(definition.schedule))
    values["trading_days"] = list(definition.trading_days)
    values["closed_dates"] = list(definition.closed_dates)
    values |= {"sequence": record.sequence, "defined_at_ns": record.time}
    units = (Decimal(1).scaleb(-definition.price_scale), Decimal(1).scaleb(-definition.quantity_scale))
    return (*(values[name] for name in DEFINITION_COLUMNS), *units, Times().single(record.time))


def columns_of(line: bytes | None) -> Sequence[str]:
    return [] if line is None else line.decode(errors="replace").rstrip("\n").split("\t")


def described(table: str, columns: Sequence[str]) -> str:
    """Return a row as text, the columns without a value left out."""
    pairs = zip(COLUMNS[table], columns, strict=False)
    return shown(", ".join(f"{name} {value}" for name, value in pairs if value != "\\N"))
