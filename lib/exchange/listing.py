"""`assets.toml` as text that tables are added to and taken out of, with everything else in it left as it is.

What comes out is checked as a whole, as the start of the exchange would: a text that is returned can be written.
"""

import fcntl
import json
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from exchange import config as configuration
from exchange.config import Config, ConfigError
from exchange.folders import replace_file

ASSET_HEADER = re.compile(r"\s*\[\[\s*asset\s*\]\]\s*(#.*)?\Z")
KEY = re.compile(r"[a-z][a-z0-9_]*\Z")


class ListingError(Exception):
    """What was asked for can't be done to the file; the text says why and what to do."""


def assets_file(config: Config) -> Path:
    return config.folder / "assets.toml"


@contextmanager
def editing(config: Config) -> Iterator[None]:
    """Keep others who would edit the file the same way from doing so at the same time. Raises ListingError."""
    folder = os.open(config.folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ListingError(
                f"{config.folder}: somebody else is adding or removing an asset; try again when that is done"
            ) from None
        yield
    finally:
        os.close(folder)


def table(config: Config, name: str) -> dict[str, Any] | None:
    """Return the table of an asset as the file has it now, None where there is none."""
    return next(
        (found for found in _tables(assets_file(config).read_text("utf-8")) if found.get("asset") == name), None
    )


def toml_value(text: str) -> str:
    """Return a value that a user gave as TOML: as it is where it is TOML already (2, true, [...]), else as text.

    >>> toml_value("25"), toml_value("allow"), toml_value("08:50:00"), toml_value('["mon", "tue"]')
    ('25', '"allow"', '"08:50:00"', '["mon", "tue"]')
    """
    try:
        values = tomllib.loads(f"value = {text}") if "\n" not in text else {}
    except tomllib.TOMLDecodeError:
        values = {}
    plain = values.keys() == {"value"} and isinstance(values["value"], bool | int | float | str | list | dict)
    return text if plain else json.dumps(text, ensure_ascii=False)


def with_table(config: Config, name: str, settings: dict[str, str]) -> tuple[str, Config]:
    """Return the file's text with a table for a new asset at its end, and the configuration that it makes.

    `settings` are the table's other keys with values as users give them (see `toml_value`). Raises ConfigError.
    """
    wrong = [f"{key}: no such key; a key is like price_scale" for key in settings if not KEY.match(key)]
    if wrong:
        raise ConfigError(wrong)
    lines = [f"{key} = {toml_value(value)}" for key, value in {"asset": json.dumps(name), **settings}.items()]
    text = assets_file(config).read_text("utf-8").rstrip("\n")
    return _checked(config, "\n".join([*([text, ""] if text else []), "[[asset]]", *lines, ""]))


def without_table(config: Config, name: str) -> tuple[str, Config]:
    """Return the file's text without an asset's table, and the configuration that it makes.

    With the table go the comments in it: those between its header and its last key. What stands before its header and
    behind its last key stays. Raises ConfigError, and ListingError where the table can't be told from the rest.
    """
    text = assets_file(config).read_text("utf-8")
    lines = text.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if ASSET_HEADER.match(line.rstrip("\r\n"))]
    kept = [found for found in _tables(text) if found.get("asset") != name]
    for place, start in enumerate(starts):
        end = starts[place + 1] if place + 1 < len(starts) else len(lines)
        while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
            end -= 1
        rest = "".join(lines[:start]).rstrip("\n") + "\n" + "".join(lines[end:])
        try:
            if _tables(rest) == kept:
                return _checked(config, rest.lstrip("\n"))
        except tomllib.TOMLDecodeError:
            continue
    raise ListingError(
        f"{assets_file(config)}: the table of {name} can't be told from the rest; take it out by hand and repeat this"
    )


def write(config: Config, text: str) -> None:
    """Write the file's new text. Raises ListingError."""
    try:
        replace_file(assets_file(config), text, durable=True)
    except OSError as error:
        raise ListingError(f"{assets_file(config)}: can't be written: {error.strerror}") from None


def _tables(text: str) -> list[dict[str, Any]]:
    tables = tomllib.loads(text).get("asset", [])
    return [found for found in tables if isinstance(found, dict)] if isinstance(tables, list) else []


def _checked(config: Config, text: str) -> tuple[str, Config]:
    """Return the text and the configuration that it makes. Raises ConfigError with the mistakes in it."""
    with tempfile.TemporaryDirectory(prefix="exchange-") as name:
        draft = Path(name)
        shutil.copy(config.folder / "exchange.toml", draft / "exchange.toml")
        (draft / "assets.toml").write_text(text, "utf-8")
        try:
            read = configuration.load(draft, config.data)
        except ConfigError as error:
            raise ConfigError([each.replace(name, str(config.folder)) for each in error.mistakes]) from None
    return text, replace(config, assets=read.assets, hosts=read.hosts)
