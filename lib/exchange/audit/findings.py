"""What an audit comes to: how far it went and what it saw, or the first difference, with all that is needed to look."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType


class Finding(Struct, omit_defaults=True):
    """A difference: what is wrong, where it is, what was expected and what was found there, and what to do."""

    check: str
    what: str
    asset: str | UnsetType = UNSET
    sequence: int | UnsetType = UNSET  # of the request, in the asset's queue
    file: str | UnsetType = UNSET
    offset: int | UnsetType = UNSET  # in the file
    table: str | UnsetType = UNSET
    key: str | UnsetType = UNSET  # of the row
    expected: str | UnsetType = UNSET
    found: str | UnsetType = UNSET
    also: str | UnsetType = UNSET  # what is wrong besides, at the same place
    remedy: str | UnsetType = UNSET


class Difference(Exception):
    """Something is not as it has to be. Raised where it is seen; who knows more of the place adds it with `at`."""

    def __init__(self, check: str, what: str, **more: Any) -> None:
        super().__init__(what)
        self.finding = Finding(check, what, **more)

    def __str__(self) -> str:
        fields = ((name, getattr(self.finding, name)) for name in Finding.__struct_fields__)
        return "; ".join(f"{name}: {value}" for name, value in fields if value is not UNSET)

    def at(self, **place: Any) -> "Difference":
        """Fill in what is not known yet, and return the difference."""
        for name, value in place.items():
            if getattr(self.finding, name) is UNSET:
                setattr(self.finding, name, value)
        return self


class UnknownAsset(Exception):
    """The journal has no such asset; the text says which it has."""


class Unreadable(Exception):
    """There is nothing to audit, or nothing that this program can read; the text says why and what to do."""


class AssetSummary(Struct, kw_only=True):
    """What was seen of an asset. Sequences are of its queue; `database` is None where that was not looked at."""

    asset: str
    first: int  # the first request that there is; not 1 where the files before it are elsewhere
    journal: int  # up to here: the bound
    event_log: int
    database: int | None
    replayed_from: int  # the matching core was run over the journal from this request on; 0: not at all
    orders: int = 0
    trades: int = 0
    events: int = 0
    rows: int = 0
    accounts: int = 0
    open_orders: int = 0
    snapshots: int = 0
    seals: int = 0

    @property
    def complete(self) -> bool:
        return self.event_log == self.journal and self.database in (None, self.journal)


class Summary(Struct, kw_only=True):
    """What a clean audit has gone through."""

    requests: int = 0  # of the whole journal
    orders: int = 0
    journal_bytes: int = 0
    journal_segments: int = 0
    journal_seals: int = 0
    seconds: float = 0.0
    assets: list[AssetSummary] = []
    notes: list[str] = []
    lagging: list[str] = []  # what has not arrived yet
