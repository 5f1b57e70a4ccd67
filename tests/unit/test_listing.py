"""assets.toml as it is edited while the exchange runs: one table comes or goes, and nothing else changes."""

import doctest
from pathlib import Path

import pytest

from exchange import config, listing
from exchange.config import Config, ConfigError
from exchange.listing import ListingError
from tests.support import write_config

FILE = """\
# What is traded.

[[asset]]                   # a stock
asset = "ACME"
price_scale = 2             # cents
# and nothing else

# What follows is a pair.
[[asset]]
asset = "BTC-USD"
# eight decimals
quantity_scale = 8
price_scale = 2

[[asset]]
asset = "LAST"
"""


@pytest.fixture
def traded(tmp_path: Path) -> Config:
    return write_config(tmp_path, FILE)


def names(made: Config) -> list[str]:
    return [asset.asset for asset in made.assets]


def test_a_table_is_added_at_the_end_and_the_rest_stays(traded: Config) -> None:
    text, made = listing.with_table(
        traded, "NEW", {"price_scale": "4", "self_trade": "allow", "day_roll": "22:00:00", "time_zone": "Europe/Berlin"}
    )
    assert text == (
        f'{FILE}\n[[asset]]\nasset = "NEW"\nprice_scale = 4\nself_trade = "allow"\nday_roll = "22:00:00"\n'
        'time_zone = "Europe/Berlin"\n'
    )
    assert names(made) == ["ACME", "BTC-USD", "LAST", "NEW"]
    assert (made.asset("NEW").price_scale, made.asset("NEW").self_trade) == (4, "allow")
    assert made.endpoints == traded.endpoints


def test_a_schedule_is_given_as_toml(traded: Config) -> None:
    schedule = '[{at = "09:00", status = "open"}, {at = "17:30", status = "closed"}]'
    _, made = listing.with_table(traded, "NEW", {"schedule": schedule})
    assert [change.status for change in made.asset("NEW").schedule] == ["open", "closed"]


@pytest.mark.parametrize(
    ("name", "settings", "mistake"),
    [
        ("new", {}, "[[asset]] new: asset = 'new': must be 1 to 24 characters"),
        ("NEW", {"tick": "5"}, "[[asset]] NEW: tick = 5: no such key"),
        ("NEW", {"tick_size": "five"}, "[[asset]] NEW: tick_size = 'five': "),
        ("NEW", {"lot_size": "0"}, "[[asset]] NEW: lot_size = 0: must be 1 or more"),
        ("NEW", {"a b": "0"}, "a b: no such key"),
        ("ACME", {}, "there is one of that name already"),
    ],
)
def test_what_the_configuration_would_not_take_is_not_added(
    traded: Config, name: str, settings: dict[str, str], mistake: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        listing.with_table(traded, name, settings)
    assert mistake in str(caught.value)
    assert str(caught.value).startswith(str(traded.folder)) or "a b" in settings


def test_a_table_goes_with_the_comments_in_it_and_no_others(traded: Config) -> None:
    text, made = listing.without_table(traded, "BTC-USD")
    assert text == FILE.replace(
        '[[asset]]\nasset = "BTC-USD"\n# eight decimals\nquantity_scale = 8\nprice_scale = 2\n\n', "\n"
    )
    assert names(made) == ["ACME", "LAST"]
    text, made = listing.without_table(traded, "ACME")
    assert text.startswith("# What is traded.\n")
    assert "cents" not in text
    assert "# What follows is a pair.\n[[asset]]\n" in text
    text, made = listing.without_table(traded, "LAST")
    assert text == FILE.replace('\n[[asset]]\nasset = "LAST"\n', "")


def test_what_was_added_can_be_removed_again_without_a_trace(traded: Config) -> None:
    text, made = listing.with_table(
        traded, "NEW", {"schedule": '[{at = "09:00", status = "open"}, {at = "17:30", status = "closed"}]'}
    )
    listing.write(made, text)
    assert config.load(traded.folder, traded.data).assets == made.assets
    text, _ = listing.without_table(made, "NEW")
    assert text == FILE


def test_tables_within_an_assets_go_with_it(traded: Config) -> None:
    schedule = (
        '[[asset.schedule]]\nat = "09:00"\nstatus = "open"\n\n[[asset.schedule]]\nat = "17:00"\nstatus = "closed"\n'
    )
    (traded.folder / "assets.toml").write_text(
        FILE.replace('[[asset]]\nasset = "LAST"\n', f'[[asset]]\nasset = "LAST"\n{schedule}')
    )
    text, made = listing.without_table(traded, "LAST")
    assert "schedule" not in text
    assert names(made) == ["ACME", "BTC-USD"]


def test_the_last_asset_stays(tmp_path: Path) -> None:
    only = write_config(tmp_path, '[[asset]]\nasset = "ACME"\n')
    with pytest.raises(ConfigError, match="there must be at least one table"):
        listing.without_table(only, "ACME")


def test_a_table_written_in_another_way_has_to_be_taken_out_by_hand(tmp_path: Path) -> None:
    inline = write_config(tmp_path, 'asset = [{asset = "ACME"}, {asset = "LAST"}]\n')
    with pytest.raises(ListingError, match="take it out by hand"):
        listing.without_table(inline, "ACME")


def test_one_at_a_time_edits(traded: Config) -> None:
    with listing.editing(traded), pytest.raises(ListingError, match="somebody else"), listing.editing(traded):
        pass
    with listing.editing(traded):
        pass


def test_the_file_keeps_its_mode_and_a_link_stays_a_link(traded: Config, tmp_path: Path) -> None:
    file = traded.folder / "assets.toml"
    elsewhere = tmp_path / "elsewhere.toml"
    file.rename(elsewhere)
    elsewhere.chmod(0o640)
    file.symlink_to(elsewhere)
    listing.write(traded, "# nothing\n")
    assert file.is_symlink()
    assert elsewhere.read_text() == "# nothing\n"
    assert elsewhere.stat().st_mode & 0o777 == 0o640


def test_the_examples_in_the_code_hold() -> None:
    assert doctest.testmod(listing).failed == 0
