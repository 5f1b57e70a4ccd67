"""What an operator asks of the order handler, and what it answers: MessagePack maps with a `type`, over a local socket.

The socket lies in the run folder, which only the exchange's owner can enter. `by` says who it was, for the journal.
Prices, quantities and times are the wire's integers; a definition has the keys of `exchange.core.asset.Asset`.
"""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from exchange.core.asset import Asset, Status


class Act(Struct, tag_field="type", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What every act carries."""

    by: str = ""


class ChangeStatus(Act, tag="change_status", frozen=True, kw_only=True):
    """Change an asset's trading status; a call that ends does so with an auction."""

    asset: str
    status: Status


class Cancel(Act, tag="cancel", frozen=True, kw_only=True):
    """Cancel all of an account's live orders, in one asset or all."""

    account: str
    asset: str | UnsetType = UNSET


class AddAsset(Act, tag="add_asset", frozen=True, kw_only=True):
    """List an asset, or change what is listed: its definition goes into its queue, unless it is there already."""

    definition: Asset


class RemoveAsset(Act, tag="remove_asset", frozen=True, kw_only=True):
    """Take an asset off the list: all its orders are canceled, and it is closed. Nothing where it is off already."""

    asset: str


class SetClock(Act, tag="set_clock", frozen=True, kw_only=True):
    """Set a manual clock forward to a time, in nanoseconds since the Unix epoch."""

    time: int


class ReadClock(Act, tag="clock", frozen=True, kw_only=True):
    """Ask for the exchange's time and whether its clock is a manual one."""


AnyAct = ChangeStatus | Cancel | AddAsset | RemoveAsset | SetClock | ReadClock


class Done(Struct, tag_field="type", tag="done", frozen=True, kw_only=True, omit_defaults=True):
    """The act is on disk. `sequences` are the places of its requests, by asset; empty where nothing was to be done."""

    time: int | UnsetType = UNSET
    sequences: dict[str, int] = {}
    mode: Literal["system", "manual"] | UnsetType = UNSET


class Refused(Struct, tag_field="type", tag="reject", frozen=True, kw_only=True):
    """Nothing was done. `text` gives the value and the rule."""

    reason: str
    text: str


AdminReply = Done | Refused
