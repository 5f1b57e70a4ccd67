"""What the start writes and checks before anything runs."""

import configparser
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from daemons import __main__ as start
from exchange import supervision
from exchange.config import PROJECT, Config
from exchange.folders import FolderError, prepare_folders, private_folder
from exchange.status import Lock
from exchange.store import embedded
from exchange.store.binaries import Binaries
from exchange.supervision import SupervisionError
from tests.support import write_config


@pytest.fixture
def config(open_folder: Path) -> Config:
    config = write_config(open_folder / "with a space")
    prepare_folders(config)
    return config


def read_programs(config: Config) -> configparser.RawConfigParser:
    """Return all that supervisord would read, paths expanded by nobody: there is nothing left to expand."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read(supervision.settings_file(config))
    parser.read(sorted((config.data / "supervisor").glob("*.conf")))
    return parser


def test_each_program_of_the_configuration_gets_its_section(config: Config) -> None:
    supervision.write_files(config)
    parser = read_programs(config)
    found = {section.removeprefix("program:") for section in parser.sections() if section.startswith("program:")}
    assert found == {"order_handler", "matching-ACME", "matching-BTC-USD", "logger", "notifier", "postgres"}
    assert found == set(supervision.programs(config))
    assert not [section for section in parser.sections() if section.startswith(("group:", "template:"))]


def test_paths_are_filled_in_and_spaces_stay_together(config: Config) -> None:
    supervision.write_files(config)
    parser = read_programs(config)
    matching = parser["program:matching-BTC-USD"]
    assert matching["command"] == f'"{sys.executable}" -m daemons.matching BTC-USD'
    assert matching["directory"] == str(PROJECT)
    assert matching["stdout_logfile"] == f"{config.data}/log/matching-BTC-USD.log"
    assert f'EXCHANGE_DATA="{config.data}"' in parser["supervisord"]["environment"]
    assert f'EXCHANGE_CONFIG="{config.folder}"' in parser["supervisord"]["environment"]
    assert "%(" not in supervision.settings_file(config).read_text()


def test_no_order_enters_while_what_is_downstream_stops(config: Config) -> None:
    supervision.write_files(config)
    parser = read_programs(config)
    names = ("order_handler", "matching-ACME", "notifier", "logger", "postgres")
    priorities = [int(parser[f"program:{name}"]["priority"]) for name in names]
    assert priorities == sorted(priorities, reverse=True)
    assert supervision.stages(config)[0] == ["order_handler"]


def test_with_a_configured_database_there_is_no_postgres(config: Config) -> None:
    supervision.write_files(config)
    configured = replace(config, database=replace(config.database, dsn="host=db"))
    supervision.write_files(configured)
    assert "program:postgres" not in read_programs(configured)
    assert "postgres" not in supervision.programs(configured)
    assert embedded.database_dsn(configured) == "host=db"


def test_an_asset_that_was_removed_loses_its_program(config: Config) -> None:
    supervision.write_files(config)
    fewer = replace(config, assets=config.assets[:1])
    supervision.write_files(fewer)
    assert "program:matching-ACME" in read_programs(fewer)
    assert "program:matching-BTC-USD" not in read_programs(fewer)


@pytest.mark.parametrize("name", ["100%", 'a"b', "a ;b", "a[1]", "new\nline"])
def test_a_path_that_supervisord_would_misread_is_refused(config: Config, name: str) -> None:
    with pytest.raises(SupervisionError, match="can't be told of a path with"):
        supervision.write_files(replace(config, data=config.data / name))


def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "planted").symlink_to(tmp_path)
    with pytest.raises(FolderError, match="is a symbolic link"):
        private_folder(tmp_path / "planted")


def test_a_private_folder_lets_nobody_else_in(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    private_folder(tmp_path / "open")
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o700


def test_ports_in_use_are_named(config: Config) -> None:
    port = int(config.endpoints.private.rsplit(":", 1)[1])
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(
            start.Refused, match=f"endpoints.private = 'tcp://127.0.0.1:{port}': Address already in use"
        ):
            start.check_ports(config)
    start.check_ports(config)


def test_a_daemon_started_by_hand_is_named(config: Config) -> None:
    lock = Lock(config.journal_folder / "lock", "an order handler")
    with pytest.raises(start.Refused, match=f"as process {os.getpid()}, which holds {config.journal_folder}"):
        start.check_daemons(config)
    lock.release()
    start.check_daemons(config)


def test_nothing_is_left_behind_by_a_supervisord_that_never_ran(config: Config) -> None:
    assert supervision.find_left_behind(config) == []


def test_the_embedded_dsn_is_the_same_always_and_its_socket_short_enough(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / ("long" * 30)):
        config = write_config(folder)
        parts = conninfo_to_dict(embedded.dsn(config))
        assert parts["dbname"] == parts["user"] == "exchange"
        assert len(f"{parts['host']}/.s.PGSQL.5432.lock") <= 107
        assert embedded.dsn(config) == embedded.database_dsn(config)


def test_a_database_of_another_version_says_what_to_do(config: Config) -> None:
    data = embedded.home_folder(config) / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(embedded.EmbeddedError, match=r"is of PostgreSQL 9, and here is .*; install 9, or upgrade it"):
        embedded.choose_binaries(embedded.home_folder(config), None)


def test_a_long_path_has_room_for_its_files_and_for_a_short_socket(tmp_path: Path) -> None:
    config = write_config(tmp_path / ("long" * 30))
    prepare_folders(config)
    try:
        supervision.write_files(config)
        parser = read_programs(config)
        assert Path(parser["supervisord"]["pidfile"]).parent.is_dir()
        assert parser["unix_http_server"]["file"] == str(supervision.socket_file(config))
        assert len(f"{supervision.socket_file(config)}.4194304") <= 107
    finally:
        config.run_folder.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_root_finds_and_takes_over_the_sockets_of_another_users_exchange_where_the_path_is_long(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 30)
    data.mkdir()
    config = replace(write_config(tmp_path), data=data)
    own = config.run_folder
    os.chown(data, 65534, -1)
    folder = config.run_folder
    assert folder != own
    assert folder.name.startswith("exchange-65534-"), "what that user's own processes call it"
    assert config.admin_endpoint == f"ipc://{folder}/admin"
    try:
        folder.mkdir(mode=0o700)
        os.chown(folder, 65533, -1)
        with pytest.raises(FolderError, match="must be a folder of root's and is a folder of"):
            prepare_folders(config)
        os.chown(folder, 65534, -1)
        prepare_folders(config)
        assert folder.stat().st_uid == 0
    finally:
        folder.rmdir()
    folder.symlink_to(tmp_path)
    os.chown(folder, 65534, -1, follow_symlinks=False)
    try:
        with pytest.raises(FolderError, match="is a symbolic link"):
            prepare_folders(config)
        assert folder.lstat().st_uid == 65534
    finally:
        folder.unlink()


def test_the_id_of_a_dead_server_that_another_program_has_by_now_is_forgotten(config: Config) -> None:
    home = embedded.home_folder(config)
    (home / "data").mkdir(parents=True)
    note = home / "data" / "postmaster.pid"
    note.write_text(f"{os.getpid()}\n{home / 'data'}\n")
    lock = Lock(home / "lock", "a server")
    embedded.forget_dead_server(embedded.Server(Binaries(home, "18", False), home, home / "run", None, lock))
    lock.release()
    assert not note.exists()


def test_a_copied_data_folder_does_not_get_the_database_of_the_first(config: Config, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / embedded.BELONGS_TO).write_text(f"{config.data}\n")
    embedded.home_folder(config).symlink_to(place)
    copied = replace(config, data=tmp_path / "copy")
    copied.data.mkdir()
    embedded.home_folder(copied).symlink_to(place)
    with pytest.raises(embedded.EmbeddedError, match=f"which is the database of {config.data}"):
        embedded.find_home(copied, None)


def test_a_moved_data_folder_keeps_its_database(config: Config, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / embedded.BELONGS_TO).write_text(f"{config.data}\n")
    moved = replace(config, data=tmp_path / "moved")
    config.data.rename(moved.data)
    embedded.home_folder(moved).symlink_to(place)
    assert embedded.find_home(moved, None) == place
    assert (place / embedded.BELONGS_TO).read_text() == f"{moved.data}\n"
